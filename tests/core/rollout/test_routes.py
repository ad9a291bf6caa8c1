"""Weights of Gateway API routes: what is applied, what may go when, and what counts as arrived."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.api.reasons import Reason
from pilotfish.core.observed import observe
from pilotfish.core.rollout.routes import (
    assigned_weights,
    keep_routes,
    route_names,
    routed_revisions,
    routes_state,
    safe_weights,
    unwanted_routes,
    uses_routes,
    weighted_revisions,
)
from pilotfish.core.scope import make_scope
from pilotfish.resources import make_http_route
from support.builders import NOW, OWNER, POLICY, make_model_deployment, make_spec
from support.two_revisions import record_of

ROUTES = dataclasses.replace(POLICY, gateway_api=True)
OLD, NEW = "bbbbbbbb", "cccccccc"
GATEWAY = {
    "name": "public",
    "hostnames": ["digits.example.org"],
    "grpc": {"hostnames": ["grpc.digits.example.org"]},
}
HTTP_ONLY = {"gateway": {"name": "public"}, "protocols": ["HTTP"]}
BOTH = {"gateway": GATEWAY}
EVEN = {OLD: 50, NEW: 50}


def scope_of(*objects, serving=BOTH, policy=ROUTES, unserved=frozenset()):
    spec = {"model": {"uri": "s3://m/x"}, "serving": serving}
    observed = observe(make_model_deployment(spec), objects, unserved=unserved)
    return make_scope(observed, make_spec(spec), policy, NOW)


def condition(kind, generation=1, *, status="True", message="fine", reason="Because"):
    return {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }


def answer(*conditions, gateway="public"):
    return {"parentRef": {"name": gateway}, "controllerName": "x/y", "conditions": list(conditions)}


ACCEPTED = answer(condition("Accepted"), condition("ResolvedRefs"))


def stored(body, *, parents=(ACCEPTED,), generation=1):
    """A body as the API server hands it out once a gateway has answered."""
    meta = {**body["metadata"], "uid": f"uid-{body['kind']}-{body['metadata']['name']}", "generation": generation}
    status = {"status": {"parents": list(parents)}} if body["kind"].endswith("Route") else {}
    return {**body, "metadata": meta, **status}


def world(weights, *, serving=BOTH, **about_routes):
    """Everything that keep_routes makes for these weights, stored."""
    bodies = [apply.body for apply in keep_routes(scope_of(serving=serving), weights)]
    return [stored(body, **(about_routes if body["kind"].endswith("Route") else {})) for body in bodies]


def titles(things):
    return [(b["kind"], b["metadata"]["name"]) for b in (getattr(thing, "body", thing) for thing in things)]


def with_backends(objects, change):
    """The same with every route's backendRefs changed."""

    def changed(body):
        if not body["kind"].endswith("Route"):
            return body
        (rule,) = body["spec"]["rules"]
        return {**body, "spec": {**body["spec"], "rules": [{**rule, "backendRefs": change(rule["backendRefs"])}]}}

    return [changed(body) for body in objects]


# What is applied


def test_services_come_before_the_routes_that_name_them():
    assert titles(keep_routes(scope_of(), EVEN)) == [
        ("Service", f"digits-{OLD}-route"),
        ("Service", f"digits-{NEW}-route"),
        ("HTTPRoute", "digits-http"),
        ("GRPCRoute", "digits-grpc"),
    ]


@pytest.mark.parametrize(("protocol", "kind"), [("HTTP", "HTTPRoute"), ("GRPC", "GRPCRoute")])
def test_only_protocols_that_are_offered_get_a_route(protocol, kind):
    scope = scope_of(serving={"gateway": {"name": "public"}, "protocols": [protocol]})
    assert titles(keep_routes(scope, {OLD: 100})) == [
        ("Service", f"digits-{OLD}-route"),
        (kind, f"digits-{protocol.lower()}"),
    ]
    assert route_names(scope) == {(kind, f"digits-{protocol.lower()}")}


def test_what_is_as_it_should_be_is_not_written():
    assert keep_routes(scope_of(*world(EVEN)), EVEN) == ()


def test_two_rules_of_plain_json_carry_the_weights_once():
    serving = {**BOTH, "predict": {}}
    scope = scope_of(*world(EVEN, serving=serving), serving=serving)
    assert keep_routes(scope, EVEN) == ()
    assert assigned_weights(scope) == EVEN
    # Without plain JSON in the spec, the rule goes and the weights stay.
    scope = scope_of(*world(EVEN, serving=serving))
    assert titles(keep_routes(scope, EVEN)) == [("HTTPRoute", "digits-http")]
    assert assigned_weights(scope) == EVEN


# Plain JSON that not every revision offers

PLAIN = {**BOTH, "predict": {}}


def knowing(scope, **serving):
    """The scope with the record of each revision, made with that serving block."""
    records = {revision: record_of(scope_of(serving=block), revision) for revision, block in serving.items()}
    return dataclasses.replace(scope, records=records)


def mixed(weights, *, spec=BOTH):
    """OLD offers plain JSON, NEW does not; the stored world and the scope that sees it."""
    offered = {OLD: PLAIN, NEW: BOTH}
    bodies = [apply.body for apply in keep_routes(knowing(scope_of(serving=spec), **offered), weights)]
    return knowing(scope_of(*(stored(body) for body in bodies), serving=spec), **offered)


def rules_of(scope):
    rules = scope.observed.child("HTTPRoute", "digits-http")["spec"]["rules"]
    return [{backend["name"]: backend["weight"] for backend in rule["backendRefs"]} for rule in rules]


def with_rule(scope, number, weights):
    """The same, with other backends in one rule of the HTTPRoute."""
    backends = [
        {"group": "", "kind": "Service", "name": f"digits-{revision}-route", "port": 8000, "weight": weight}
        for revision, weight in weights.items()
    ]

    def changed(body):
        if body["kind"] != "HTTPRoute":
            return body
        rules = list(body["spec"]["rules"])
        rules[number] = {**rules[number], "backendRefs": backends}
        return {**body, "spec": {**body["spec"], "rules": rules}}

    children = tuple(changed(body) for body in scope.observed.children)
    return dataclasses.replace(scope, observed=dataclasses.replace(scope.observed, children=children))


@pytest.mark.parametrize("spec", [BOTH, PLAIN], ids=["spec without", "spec with"])
def test_what_a_revision_offers_is_in_its_record_whatever_the_spec_says_now(spec):
    scope = mixed({OLD: 90, NEW: 10}, spec=spec)
    everything = {f"digits-{OLD}-route": 90, f"digits-{NEW}-route": 10}
    assert rules_of(scope) == [{f"digits-{OLD}-route": 90}, everything]
    assert rules_of(mixed({OLD: 0, NEW: 100}, spec=spec)) == [{f"digits-{OLD}-route": 0, f"digits-{NEW}-route": 100}]


@pytest.mark.parametrize("weights", [{OLD: 90, NEW: 10}, {OLD: 0, NEW: 100}, {OLD: 100, NEW: 0}, {OLD: 100}])
def test_the_rule_of_plain_json_changes_nothing_of_what_the_weights_are(weights):
    scope = mixed(weights)
    assert keep_routes(scope, weights) == ()
    assert assigned_weights(scope) == weights
    assert routes_state(scope, weights).ready
    assert weighted_revisions(scope) == routed_revisions(scope) == {r for r, weight in weights.items() if weight}
    assert unwanted_routes(scope, frozenset(weights)) == ()


@pytest.mark.parametrize(
    ("number", "other", "counted"),
    [
        (0, {OLD: 100}, {OLD: 190, NEW: 10}),
        (0, {NEW: 90}, {OLD: 90, NEW: 100}),
        (1, {NEW: 100}, {OLD: 90, NEW: 100}),
        (1, {OLD: 0, NEW: 100}, {OLD: 90, NEW: 100}),
    ],
)
def test_a_weight_that_somebody_else_gave_in_one_rule_alone_counts(number, other, counted):
    """Its pods stay, its Service stays, and the routes are written again."""
    scope = with_rule(mixed({OLD: 90, NEW: 10}), number, other)
    assert weighted_revisions(scope) == {OLD, NEW}
    assert assigned_weights(scope) is None, "the GRPCRoute says something else"
    assert titles(keep_routes(scope, {OLD: 90, NEW: 10})) == [("HTTPRoute", "digits-http")]
    assert unwanted_routes(scope, frozenset()) == ()
    only = dataclasses.replace(scope, spec=make_spec({"model": {"uri": "s3://m/x"}, "serving": HTTP_ONLY}))
    assert assigned_weights(only) == counted


def test_new_weights_change_the_routes_and_nothing_else():
    applies = keep_routes(scope_of(*world(EVEN)), {OLD: 49, NEW: 51})
    assert titles(applies) == [("HTTPRoute", "digits-http"), ("GRPCRoute", "digits-grpc")]
    assert [apply.uid for apply in applies] == ["uid-HTTPRoute-digits-http", "uid-GRPCRoute-digits-grpc"]


@pytest.mark.parametrize(
    ("scope", "weights"),
    [
        (scope_of(serving={}), EVEN),
        (scope_of(policy=POLICY), EVEN),
        (scope_of(unserved=frozenset({"GRPCRoute"})), EVEN),
        (scope_of(), {}),
    ],
    ids=["no gateway", "not in use", "not installed", "no revision"],
)
def test_nothing_is_made_where_nothing_can_be_routed(scope, weights):
    assert keep_routes(scope, weights) == ()


def test_a_gateway_decides_whether_routes_split_the_traffic():
    assert uses_routes(scope_of())
    assert not uses_routes(scope_of(serving={}))
    assert route_names(scope_of(serving={})) == frozenset()


def test_ta07_the_service_of_a_revision_is_never_pointed_elsewhere():
    """Whoever is stable and whatever the weights are."""
    for weights in ({NEW: 100}, {NEW: 0, OLD: 100}, {NEW: 1, OLD: 99}):
        bodies = [apply.body for apply in keep_routes(scope_of(), weights)]
        (service,) = [body for body in bodies if body["metadata"]["name"] == f"digits-{NEW}-route"]
        assert service["spec"]["selector"]["pilotfish.dev/revision"] == NEW


FOREIGN = {"group": "", "kind": "Service", "name": "mine", "port": 80, "weight": 5}


@pytest.mark.parametrize(
    "change",
    [
        lambda backends: [*backends, FOREIGN],
        lambda backends: backends[:1],
        lambda backends: [{**backend, "weight": 7} for backend in backends],
        lambda backends: [{**backend, "port": 9} for backend in backends],
    ],
    ids=["one more", "one less", "other weights", "other ports"],
)
def test_ta12_ta21_backends_are_replaced_as_a_set(change):
    """Backends that were added by hand go, those that were taken out come back; nothing is appended."""
    edited = with_backends(world(EVEN), change)
    scope = scope_of(*edited)
    applies = keep_routes(scope, EVEN)
    assert titles(applies) == [("HTTPRoute", "digits-http"), ("GRPCRoute", "digits-grpc")]
    for apply in applies:
        (rule,) = apply.body["spec"]["rules"]
        backends = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
        assert backends == {f"digits-{OLD}-route": 50, f"digits-{NEW}-route": 50}
    assert not routes_state(scope, EVEN).ready


def test_ta21_a_second_parent_goes_too():
    edited = [
        {**body, "spec": {**body["spec"], "parentRefs": [*body["spec"]["parentRefs"], {"name": "mine"}]}}
        if body["kind"] == "HTTPRoute"
        else body
        for body in world(EVEN)
    ]
    assert titles(keep_routes(scope_of(*edited), EVEN)) == [("HTTPRoute", "digits-http")]


def test_what_the_server_adds_is_left_alone():
    """Defaults inside of the lists that we name are no difference."""
    defaulted = with_backends(world(EVEN), lambda backends: [{**backend, "namespace": "team"} for backend in backends])
    matched = [
        {
            **body,
            "spec": {**body["spec"], "rules": [{**rule, "matches": [{"path": "/"}]} for rule in body["spec"]["rules"]]},
        }
        if body["kind"] == "HTTPRoute"
        else body
        for body in defaulted
    ]
    assert keep_routes(scope_of(*matched), EVEN) == ()


# What counts as arrived


def test_routes_have_arrived_when_every_parent_has_accepted_this_generation():
    state = routes_state(scope_of(*world(EVEN)), EVEN)
    assert (state.ready, state.reason, state.message, state.weights) == (True, None, "", EVEN)


def test_without_a_gateway_or_a_revision_there_is_nothing_to_wait_for():
    assert routes_state(scope_of(serving={}), EVEN).ready
    assert routes_state(scope_of(), {}).ready


@pytest.mark.parametrize(
    ("parents", "said"),
    [
        ([], 'Gateway "public" has not answered HTTPRoute "digits-http"; check that it exists in namespace team'),
        (
            [answer(condition("Accepted"), condition("ResolvedRefs"), gateway="other")],
            'Gateway "public" has not answered',
        ),
        ([answer()], 'Gateway "public" has not taken over the present HTTPRoute "digits-http" yet'),
        ([answer(condition("Accepted"))], "has not taken over the present"),
        ([answer(condition("ResolvedRefs"))], "has not taken over the present"),
        ([answer(condition("Accepted", 1), condition("ResolvedRefs", 2))], "has not taken over the present"),
        ([answer(condition("Accepted", 2), condition("ResolvedRefs", 1))], "has not taken over the present"),
        ([answer(condition("Accepted", 3), condition("ResolvedRefs", 3))], "has not taken over the present"),
        (
            [answer(condition("Accepted", 2, status="False", reason="NoMatchingParent", message="no such\n listener"))],
            'says Accepted=False for HTTPRoute "digits-http" (NoMatchingParent): no such listener',
        ),
        (
            [answer(condition("Accepted", 2), condition("ResolvedRefs", 2, status="False", reason="BackendNotFound"))],
            'says ResolvedRefs=False for HTTPRoute "digits-http" (BackendNotFound): fine',
        ),
        (
            [answer(condition("Accepted", 2, status="Unknown", message=""))],
            'says Accepted=Unknown for HTTPRoute "digits-http" (Because): no message',
        ),
        (
            [
                answer(condition("Accepted", 2), condition("ResolvedRefs", 2)),
                answer(condition("Accepted", 2), condition("ResolvedRefs", 1)),
            ],
            "has not taken over the present",
        ),
    ],
)
def test_a_parent_s_answer_counts_for_this_generation_only(parents, said):
    """Accepted and ResolvedRefs, both, of exactly the stored generation, from every parent."""
    objects = world({OLD: 100}, serving=HTTP_ONLY, parents=parents, generation=2)
    state = routes_state(scope_of(*objects, serving=HTTP_ONLY), {OLD: 100})
    assert (state.ready, state.reason, state.weights) == (False, Reason.WAITING_FOR_ROUTES, {OLD: 100})
    assert said in state.message
    assert "\n" not in state.message


def test_one_route_of_two_that_waits_is_enough_to_wait():
    objects = [{**body, "status": {"parents": []}} if body["kind"] == "GRPCRoute" else body for body in world(EVEN)]
    state = routes_state(scope_of(*objects), EVEN)
    assert not state.ready
    assert 'GRPCRoute "digits-grpc"' in state.message


def test_weights_that_are_not_stored_yet_have_not_arrived():
    state = routes_state(scope_of(*world(EVEN)), {OLD: 0, NEW: 100})
    assert (state.ready, state.reason, state.weights) == (False, Reason.WAITING_FOR_ROUTES, EVEN)
    assert state.message == 'HTTPRoute "digits-http" does not carry the new weights yet'


def test_a_route_that_is_not_there_has_not_arrived():
    state = routes_state(scope_of(), EVEN)
    assert (state.ready, state.weights) == (False, None)
    assert state.message == 'HTTPRoute "digits-http" does not exist yet'


def test_a_route_on_its_way_out_has_not_arrived():
    gone = [
        {**body, "metadata": {**body["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z"}}
        if body["kind"] == "GRPCRoute"
        else body
        for body in world(EVEN)
    ]
    assert routes_state(scope_of(*gone), EVEN).message == 'GRPCRoute "digits-grpc" does not exist yet'


def test_a_gateway_s_message_is_bounded():
    parents = [answer(condition("Accepted", status="False", message="x" * 5000))]
    objects = world({OLD: 1}, serving=HTTP_ONLY, parents=parents)
    assert routes_state(scope_of(*objects, serving=HTTP_ONLY), {OLD: 1}).message.endswith(": " + "x" * 300)


def test_a_condition_that_does_not_say_its_generation_does_not_count():
    silent = [
        {k: v for k, v in condition(kind).items() if k != "observedGeneration"} for kind in ("Accepted", "ResolvedRefs")
    ]
    objects = world({OLD: 1}, serving=HTTP_ONLY, parents=[answer(*silent)])
    assert not routes_state(scope_of(*objects, serving=HTTP_ONLY), {OLD: 1}).ready


def test_an_operator_that_does_not_use_the_gateway_api_says_what_to_do():
    state = routes_state(scope_of(policy=POLICY), EVEN)
    assert (state.ready, state.reason) == (False, Reason.GATEWAY_UNAVAILABLE)
    assert "gatewayAPI.enabled=true" in state.message


def test_a_cluster_without_routes_says_what_to_install():
    state = routes_state(scope_of(unserved=frozenset({"HTTPRoute", "GRPCRoute"})), EVEN)
    assert state.reason is Reason.GATEWAY_UNAVAILABLE
    assert "does not know GRPCRoute and HTTPRoute" in state.message


def test_a_kind_that_is_not_needed_may_be_missing():
    objects = world({OLD: 1}, serving=HTTP_ONLY)
    assert routes_state(scope_of(*objects, serving=HTTP_ONLY, unserved=frozenset({"GRPCRoute"})), {OLD: 1}).ready


def test_routes_that_differ_carry_no_weights_together():
    halves = [body for body in world(EVEN) if body["kind"] != "GRPCRoute"]
    other = [body for body in world({OLD: 1, NEW: 99}) if body["kind"] == "GRPCRoute"]
    assert assigned_weights(scope_of(*halves, *other)) is None
    assert assigned_weights(scope_of(*halves)) is None
    assert assigned_weights(scope_of(*world(EVEN))) == EVEN
    assert assigned_weights(scope_of(serving={})) is None


def test_a_backend_without_weight_has_one_and_a_stranger_counts_by_its_name():
    def change(backends):
        return [{k: v for k, v in backends[0].items() if k != "weight"}, FOREIGN]

    edited = with_backends(world(EVEN, serving=HTTP_ONLY), change)
    assert assigned_weights(scope_of(*edited, serving=HTTP_ONLY)) == {OLD: 1, "mine": 5}


# What may go


def test_ta12_a_service_goes_only_after_the_gateway_has_accepted_routes_without_it():
    """Weight 0, then no backend, then no Service: each seen before the next."""
    before = world({OLD: 0, NEW: 100})
    old_service = [body for body in before if body["metadata"]["name"] == f"digits-{OLD}-route"]
    kept = frozenset({NEW})
    assert unwanted_routes(scope_of(*before), kept) == ()
    told = [*old_service, *world({NEW: 100}, parents=[answer(condition("Accepted", 1))], generation=2)]
    assert unwanted_routes(scope_of(*told), kept) == ()
    accepted = [*old_service, *world({NEW: 100})]
    assert titles(unwanted_routes(scope_of(*accepted), kept)) == [("Service", f"digits-{OLD}-route")]


def test_a_service_of_a_kept_revision_stays_without_a_route():
    objects = [*world({NEW: 100}), *(body for body in world(EVEN) if body["metadata"]["name"] == f"digits-{OLD}-route")]
    assert unwanted_routes(scope_of(*objects), frozenset({OLD, NEW})) == ()


def test_other_services_are_not_routes_business():
    headless = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **world({OLD: 1})[0]["metadata"],
            "name": f"digits-{OLD}",
        },
    }
    assert unwanted_routes(scope_of(headless), frozenset()) == ()


def test_without_a_gateway_the_routes_go_first_and_the_services_after_them():
    objects = world(EVEN)
    first = unwanted_routes(scope_of(*objects, serving={}), frozenset({OLD, NEW}))
    assert titles(first) == [("HTTPRoute", "digits-http"), ("GRPCRoute", "digits-grpc")]
    services = [body for body in objects if body["kind"] == "Service"]
    then = unwanted_routes(scope_of(*services, serving={}), frozenset({OLD, NEW}))
    assert titles(then) == [("Service", f"digits-{OLD}-route"), ("Service", f"digits-{NEW}-route")]


def test_a_protocol_that_is_no_longer_offered_takes_its_route_along():
    only_http = {"gateway": GATEWAY, "protocols": ["HTTP"]}
    over = unwanted_routes(scope_of(*world(EVEN), serving=only_http), frozenset(EVEN))
    assert titles(over) == [("GRPCRoute", "digits-grpc")]


@pytest.mark.parametrize("scope_settings", [{"policy": POLICY}, {"unserved": frozenset({"HTTPRoute"})}])
def test_services_that_unseen_routes_may_name_stay(scope_settings):
    services = [body for body in world(EVEN) if body["kind"] == "Service"]
    assert unwanted_routes(scope_of(*services, **scope_settings), frozenset()) == ()


def test_pods_stay_while_a_gateway_may_send_them_requests():
    assert routed_revisions(scope_of(*world({OLD: 0, NEW: 100}))) == {NEW}
    assert routed_revisions(scope_of(*world({OLD: 1, NEW: 99}))) == {OLD, NEW}
    unanswered = world({OLD: 0, NEW: 100}, parents=[])
    assert routed_revisions(scope_of(*unanswered)) == {OLD, NEW}
    assert routed_revisions(scope_of(serving={})) == frozenset()


# Weights and endpoints


@pytest.mark.parametrize(
    ("weights", "ready", "expected"),
    [
        ({OLD: 90, NEW: 10}, {OLD: 2, NEW: 1}, {OLD: 90, NEW: 10}),
        ({OLD: 90, NEW: 10}, {OLD: 2, NEW: 0}, {OLD: 100, NEW: 0}),
        ({OLD: 90, NEW: 10}, {OLD: 2}, {OLD: 100, NEW: 0}),
        ({OLD: 90, NEW: 10}, {NEW: 1}, {OLD: 0, NEW: 100}),
        ({OLD: 90, NEW: 10}, {}, {OLD: 100, NEW: 0}),
        ({OLD: 100, NEW: 0}, {NEW: 3}, {OLD: 100, NEW: 0}),
        ({OLD: 0, NEW: 100}, {OLD: 1}, {OLD: 100, NEW: 0}),
        ({OLD: 0, NEW: 100}, {OLD: 1, NEW: 1}, {OLD: 0, NEW: 100}),
        ({OLD: 0, NEW: 0}, {OLD: 1, NEW: 1}, {OLD: 100, NEW: 0}),
        ({OLD: 1, NEW: 1}, {NEW: 1}, {OLD: 0, NEW: 2}),
    ],
)
def test_no_weight_without_an_endpoint(weights, ready, expected):
    assert safe_weights(weights, ready, stable=OLD) == expected


REVISIONS = st.sampled_from([OLD, NEW, "dddddddd"])


@given(
    weights=st.dictionaries(REVISIONS, st.integers(0, 1_000_000), min_size=1),
    offer=st.sets(REVISIONS),
    spec=st.sampled_from([BOTH, PLAIN]),
)
def test_routes_are_read_back_as_they_were_made_whoever_offers_plain_json(weights, offer, spec):
    made = {revision: PLAIN if revision in offer else BOTH for revision in weights}
    scope = knowing(scope_of(serving=spec), **made)
    bodies = [stored(apply.body) for apply in keep_routes(scope, weights)]
    scope = knowing(scope_of(*bodies, serving=spec), **made)
    assert keep_routes(scope, weights) == ()
    assert assigned_weights(scope) == weights
    assert weighted_revisions(scope) == {revision for revision, weight in weights.items() if weight}
    *special, _ = rules_of(scope)
    asked = {name for rule in special for name, weight in rule.items() if weight}
    assert asked == {f"digits-{revision}-route" for revision in offer if weights.get(revision)}
    assert len(special) == bool(asked)


@given(
    weights=st.dictionaries(REVISIONS, st.integers(0, 1_000_000), min_size=1),
    ready=st.dictionaries(REVISIONS, st.integers(0, 5)),
)
def test_ta05_weights_are_safe_whatever_is_asked(weights, ready):
    weights = {OLD: 0, **weights}
    safe = safe_weights(weights, ready, stable=OLD)
    assert sum(safe.values()) == (sum(weights.values()) or 100)
    assert min(safe.values()) >= 0
    served = {revision for revision, weight in safe.items() if weight and ready.get(revision, 0) > 0}
    assert served or safe == {**dict.fromkeys(weights, 0), OLD: sum(safe.values())}
    for revision, weight in safe.items():
        assert not weight or ready.get(revision, 0) > 0 or not served
        assert not weight or weights[revision] or revision == OLD


def test_a_route_is_read_back_as_it_was_made():
    """Names that are too long for a label are cut; the revision in the name is still found."""
    owner = dataclasses.replace(OWNER, name="revision-route-" + "x" * 60)
    spec = make_spec({"model": {"uri": "s3://m/x"}, "serving": HTTP_ONLY})
    body = make_http_route(owner, gateway=spec.serving.gateway, weights=EVEN)
    deployment = make_model_deployment({"model": {"uri": "s3://m/x"}, "serving": HTTP_ONLY})
    deployment["metadata"]["name"] = owner.name
    scope = make_scope(observe(deployment, [stored(body)]), spec, ROUTES, NOW)
    assert assigned_weights(scope) == EVEN
