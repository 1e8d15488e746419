from benchmarks.memory import judged


def grown(megabytes):
    return judged("requests", 1000, megabytes).grown


def test_what_is_filled_before_it_settles_is_no_growth():
    assert grown([100, 140, 170, 190, 200, 200, 200, 200]) == 0


def test_a_leak_is_growth():
    leaking = judged("requests", 1000, [100 + part for part in range(20)])
    assert leaking.grown > 0.04
    assert not leaking.holds
    assert "GROWS" in str(leaking)


def test_a_single_look_into_a_collection_decides_nothing():
    assert grown([100] * 10 + [160, 100, 100, 100, 100, 100, 100, 90, 100, 100]) == 0
