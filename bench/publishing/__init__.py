"""From records to tables, charts, pages and dashboards. Needs no torch."""
