"""Pages of docs/ that hold results of a run between two comments."""


def with_part(page: str, name: str, part: str) -> str:
    """The page with another text between its comments ``name: begin`` and ``name: end``.

    Raises:
        ValueError: the page lacks one of the comments.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, has_begin, rest = page.partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise ValueError(f"The page has no {begin} with {end} behind it.")
    return f"{before}{begin}\n{part}\n{end}{after}"
