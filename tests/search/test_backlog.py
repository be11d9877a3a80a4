from qcompiler.search.backlog import MAKING, Backlog, Pace


def measured(made, reused):
    pace = Pace()
    pace.add(True, made)
    pace.add(False, reused)
    return pace


def test_what_nobody_has_made_comes_first_then_what_is_at_hand():
    waiting = Backlog(["a", "a", "b", "c"], Pace())
    assert [waiting.take({"a"}, {"c"}) for _ in range(4)] == [2, 0, 1, None]
    assert len(waiting) == 1 and waiting.take({"c"}, {"a"}) == 3


def test_another_process_statistics_are_made_again_only_where_many_trials_need_them():
    few, many = (Backlog(["a"] * n, measured(4.0, 1.0)) for n in (3, 4))
    assert measured(4.0, 1.0).making == 3.0
    assert few.take(set(), {"a"}) is None and many.take(set(), {"a"}) == 0
    assert few.take(set(), set()) == 0  # whoever had them is gone


def test_until_it_was_measured_making_counts_as_some_trials():
    assert Pace().making == MAKING
    assert Backlog(["a"] * int(MAKING), Pace()).take(set(), {"a"}) is None


def test_a_trial_that_was_lost_is_the_next_one_again():
    waiting = Backlog(["a", "a", "a"], Pace())
    assert waiting.take({"a"}, set()) == 0
    waiting.put_back(0)
    assert [waiting.take({"a"}, set()) for _ in range(3)] == [0, 1, 2]
