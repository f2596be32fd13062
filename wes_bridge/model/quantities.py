"""Types of the costs and metrics that brokers quote. Costs are in the site's currency, kWh, and grams of CO2;
compute performance is relative, throughput in MB/s."""

from __future__ import annotations

COST_MONETARY = "urn:ivoa:calycopis:cost:monetary"
COST_ENERGY = "urn:ivoa:calycopis:cost:energy"
COST_CARBON = "urn:ivoa:calycopis:cost:carbon"
METRIC_COMPUTE = "urn:ivoa:calycopis:metric:compute-performance"
METRIC_IO = "urn:ivoa:calycopis:metric:io-throughput"
