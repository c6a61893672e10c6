from bench.core.cli.errors import ConfigError, print_error


def test_what_a_message_quotes_cannot_change_a_terminal(exits):
    said = exits(2, print_error(ConfigError("said \x1b[2J\ud800\x07\nand more" + "x" * 10**6)))
    assert said.startswith("ConfigError: said \\x1b[2J\\ud800\\x07\nand more")
    assert len(said) < 25_000
