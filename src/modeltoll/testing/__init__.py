"""Conformance suites for plug-ins, one call per kind, and stand-ins for a clock, a model server and ledger servers.

| plug-in | call |
| --- | --- |
| leak measure | ``measures.check_measure(measure, evidence)`` |
| tariff | ``tariffs.check_tariff(tariff)`` |
| puzzle | ``puzzles.check_puzzle(puzzle, profile, rng, disclose=...)`` |
| ledger | ``ledgers.check_ledger(make_ledger, survives_reopen=...)`` |
| serving protocol | ``protocols.check_protocol(ProtocolTrial(...))`` |
| attack | ``attacks.check_attack(attack, victim, resources, budget, labels_only=...)`` |
| victim, kind of honest images, defence, detector, evasion | ``bench_plugins.check_victim``, ``check_kind``, ``check_defence``, ``check_detector``, ``check_evasion`` |

Every suite raises ``AssertionError`` with a message that names what is wrong.
"""
