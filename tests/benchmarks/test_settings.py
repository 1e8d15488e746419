from benchmarks.settings import AS_SHIPPED, SWITCHES, added, table


def row(switch, cpu, number, workload="G1"):
    return {"workload": workload, "contender": switch, "round": number, "cpu_ms": cpu}


def test_what_a_switch_adds_is_the_median_of_the_differences_inside_a_round():
    rows = [row(AS_SHIPPED, cpu, n) for n, cpu in enumerate([1.0, 2.0, 3.0])]
    rows += [row("without limits", cpu, n) for n, cpu in enumerate([0.9, 1.8, 2.9])]
    assert added(rows) == {"G1": {AS_SHIPPED: 2.0, "without limits": -0.1}}


def test_the_table_has_a_line_for_each_switch_and_a_column_for_each_workload():
    found = {"G1": dict.fromkeys(SWITCHES, 0.5), "R1": {AS_SHIPPED: 0.25}}
    lines = table(found).splitlines()
    assert lines[0] == "| ms CPU a request | G1 | R1 |"
    assert lines[2:4] == ["| as shipped | 0.500 | 0.250 |", "| without limits | +0.500 |  |"]
    assert len(lines) == 2 + len(SWITCHES)
