from bff.core.recent import Recent


def test_past_its_size_what_was_set_or_moved_longest_ago_is_forgotten():
    memory = Recent(2)
    memory["a"] = memory["b"] = 1
    memory["a"] = 2
    memory["c"] = 3
    assert dict(memory) == {"a": 2, "c": 3}
    memory.move_to_end("a")
    memory.update(dict.fromkeys("de"))
    assert list(memory) == ["d", "e"]
    memory["f"] = 0
    assert list(memory) == ["e", "f"]
