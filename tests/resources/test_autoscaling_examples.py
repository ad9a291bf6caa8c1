"""The examples of autoscaling: taken by lint, named as the HPA asks, and their queries give the figure that they promise."""

from pathlib import Path

import yaml

from pilotfish.cli.advice import advise
from pilotfish.cli.check import check
from pilotfish.resources.hpa import GPU_METRIC, QUEUE_TIME_METRIC
from support.promtool import promtool

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "autoscaling"
# Two pods for ten minutes: 20 requests a second; those of the first wait 4 ms each, the GPU of the second works by half.
SERIES = [
    ('nv_inference_queue_duration_us{namespace="team",pod="a",model="digits"}', "0+1200000x40"),
    ('nv_inference_request_success{namespace="team",pod="a",model="digits"}', "0+300x40"),
    ('nv_inference_queue_duration_us{namespace="team",pod="b",model="digits"}', "0+0x40"),
    ('nv_inference_request_success{namespace="team",pod="b",model="digits"}', "0+0x40"),
    ('nv_gpu_utilization{namespace="team",pod="b",gpu_uuid="x"}', "0.5+0x40"),
]


def read(name):
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def test_models_are_taken_without_a_word():
    for name in ("model.yaml", "keda.yaml"):
        body = read(name)[0]
        assert (check(body), advise(body)) == ((), ())


def test_keda_scales_what_stands_beside_it():
    body, scaled = read("keda.yaml")
    target = scaled["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": body["apiVersion"], "kind": body["kind"], "name": body["metadata"]["name"]}
    assert "serving" not in body["spec"]


def test_the_queries_give_what_their_names_promise(tmp_path):
    (values,) = read("prometheus-adapter.yaml")
    rules = {rule["name"]["as"]: rule["metricsQuery"] for rule in values["rules"]["custom"]}
    assert rules.keys() == {QUEUE_TIME_METRIC, GPU_METRIC}
    (trigger,) = read("keda.yaml")[1]["spec"]["triggers"]

    def asked(query):
        return query.replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'namespace="team"')

    cases = [
        (asked(rules[QUEUE_TIME_METRIC]), [('{pod="a"}', 4), ('{pod="b"}', 0)]),
        (asked(rules[GPU_METRIC]), [('{pod="b"}', 50)]),
        (trigger["metadata"]["query"].replace("default", "team"), [("{}", 0.08)]),
    ]
    told = {
        "rule_files": [],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": series, "values": values} for series, values in SERIES],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "10m",
                        "exp_samples": [{"labels": labels, "value": value} for labels, value in expected],
                    }
                    for query, expected in cases
                ],
            }
        ],
    }
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump(told))
    promtool("test", "rules", file)
