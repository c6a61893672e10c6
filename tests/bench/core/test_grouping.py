from bench.core.grouping import grouped


def test_groups_and_their_members_keep_their_order():
    assert list(grouped("bAaB", str.lower).items()) == [("b", ["b", "B"]), ("a", ["A", "a"])]
