from bench.core.rows import plugin_rows, rows_in, settings_of, task_settings_of


def test_settings_are_read_of_our_rows_and_no_path_is_made_from_another_label():
    assert settings_of("performer").pop("mechanism") == "performer"
    assert settings_of("performer")["mechanism"] == "performer", "what is read is kept as it was"
    for label in ("../task/recall", "x" * 5000, "", ".", "performer.yaml", "a\0b"):
        assert settings_of(label) is None


def test_a_plugin_that_cannot_be_read_leaves_the_rows_of_others():
    rows = plugin_rows(["no_such_module", "attentions.mechanisms.linear"])
    assert rows["linear"] == settings_of("linear")


def test_settings_of_tasks_are_read_and_no_path_is_made_from_another_label():
    recall = task_settings_of("recall")
    assert (recall["task"], recall["num_pairs"], recall["match"]) == ("recall", 4, "none")
    assert recall["causal"] is False and recall["learning_rate"] == 0.006
    for label in ("../attention/performer", "x" * 5000, "", "recall.yaml", "a\0b"):
        assert task_settings_of(label) is None


def test_rows_of_ones_own_are_read_as_yaml_in_any_style(tmp_path):
    (tmp_path / "flow.yaml").write_text("flow: {mechanism: nala, rope: true}")
    (tmp_path / "quoted.yaml").write_text('quoted:\n    "mechanism": "nala"\n')
    (tmp_path / "stack.yaml").write_text("stack:\n  layers: [nala, softmax]\n")
    (tmp_path / "other.yaml").write_text("# mechanism: nala\n[1]\n")
    assert rows_in(tmp_path) == (("flow", "nala"), ("quoted", "nala"), ("stack", ""))
