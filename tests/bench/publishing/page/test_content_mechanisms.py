from bench.core.proofs import Badge, BadgeStatus, append_badges
from bench.publishing.page.content import describe_mechanisms


def test_a_mechanism_is_described_by_its_source_and_its_tests(tmp_path):
    badge = Badge(claim="causal", status=BadgeStatus.FAILED, reason="sees the future")
    append_badges(tmp_path, "run", "nala", [badge])
    facts = describe_mechanisms(["nala", "of a plugin"], tmp_path)
    assert facts.keys() == {"nala"}
    nala = facts["nala"]
    assert nala["title"] and nala["source"] and nala["summary"]
    assert "cross" in nala["claims"]
    assert nala["badges"] == [{"claim": "causal", "status": "failed", "reason": "sees the future"}]
    assert nala["tested"][0] == "0 of 1 claims hold"
    assert "``" not in str(nala)
