from benchmarks import chain


def test_the_cost_of_the_chain_is_what_it_adds_to_a_bare_wire(monkeypatch):
    monkeypatch.setattr(chain, "ROUNDS", 3)
    monkeypatch.setattr(chain, "CALLS", 200)
    found = chain.costs()
    assert set(found) == {"as shipped", "with a bulkhead", "without a breaker"}
    assert all(each > 0 for each in found.values())
