"""The Grafana dashboards of the chart as code: queries and words here, the schema from Grafana's own types."""
