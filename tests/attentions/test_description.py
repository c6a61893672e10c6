import inspect

from attentions.description import Block, describe

DOC = inspect.cleandoc(
    """softmax(q k^T) v, a first sentence
    of two lines.

        out_i = a
              + b

    with words behind it,
    over two lines.

        c = d

    Hazards:
        - One that is
          long.
        - Another one - with a dash.

    Differences:
        - None.

    Args:
        geometry: the shape.
        eps: what is
            added: always.
        k: keys.
    """
)


def test_a_docstring_is_taken_apart_into_its_parts():
    said = describe(DOC)
    assert said.summary == "softmax(q k^T) v, a first sentence of two lines."
    assert said.body == (
        Block(text="out_i = a\n      + b", is_formula=True),
        Block(text="with words behind it, over two lines."),
        Block(text="c = d", is_formula=True),
    )
    assert said.hazards == ("One that is long.", "Another one - with a dash.")
    assert said.differences == ("None.",)
    assert said.arguments == {"eps": "what is added: always.", "k": "keys."}


def test_the_formula_is_what_is_indented_or_else_the_summary():
    assert describe(DOC).formula == "out_i = a\n      + b\nc = d"
    assert describe("v / N.\n\nWords.").formula == "v / N."


def test_a_docstring_without_sections_and_an_empty_one_are_no_mistake():
    assert describe("").summary == "" and describe("").body == ()
    assert describe("One.").arguments == {} and describe("One.").hazards == ()
