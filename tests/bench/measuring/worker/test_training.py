"""What is said of a training run that is under way."""

from bench.measuring.worker.training import training_words


def test_a_line_about_training_has_loss_validation_and_the_time_that_is_left_at_most():
    words = training_words(["train", 100, 400, 0.5124, 0.843], passed_s=5.0)
    assert words == "train 100/400, loss 0.512, validation 84.3, at most 15 s left"
    assert training_words(["train", 8, 400, 3.5, None], 0.4) == (
        "train 8/400, loss 3.500, at most 20 s left"
    )
    # A run that was resumed at step 200, at two steps a second: its first message tells no rate.
    assert training_words(["train", 202, 400, 3.5, None], 4.0, (202, 4.0)) == (
        "train 202/400, loss 3.500"
    )
    assert training_words(["train", 300, 400, 3.5, None], 53.0, (202, 4.0)) == (
        "train 300/400, loss 3.500, at most 50 s left"
    )
    # Bits per byte are no share.
    assert training_words(["test", 300, 400, 2.0, 2.25], 9.0) == (
        "test 300/400, loss 2.000, validation 2.250"
    )
