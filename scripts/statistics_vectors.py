"""Writes src/runs/stats/vectors.csv: intervals and p-values as scipy and statsmodels compute them.

    pip install scipy statsmodels && python scripts/statistics_vectors.py > src/runs/stats/vectors.csv

Columns: what, five numbers it is of, then the values. Newcombe's paired interval (method 10) is in neither package: it is
computed here from statsmodels' score intervals after the paper's formula.
"""

import math

import scipy
import statsmodels
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

print(f"# scipy {scipy.__version__}, statsmodels {statsmodels.__version__}")
print("what,a,b,c,d,confidence,x,y")


def row(what, numbers, confidence, values):
    print(",".join([what, *map(str, numbers), str(confidence), *(repr(float(v)) for v in values)]))


for k, n in [(0, 1), (1, 1), (0, 20), (1, 29), (15, 148), (81, 263), (500, 1000), (997, 1000), (9999, 10000), (4321, 10000)]:
    for confidence in (0.8, 0.9, 0.95, 0.99, 0.999):
        for what, method in (("wilson", "wilson"), ("clopper-pearson", "beta")):
            row(what, (k, n, 0, 0), confidence, proportion_confint(k, n, alpha=1 - confidence, method=method))

for a, n, b, m in [(56, 70, 48, 80), (9, 10, 3, 10), (1, 50, 2, 40), (812, 1000, 790, 1000), (5, 56, 1, 29)]:
    for confidence in (0.9, 0.95, 0.99):
        low, high = confint_proportions_2indep(a, n, b, m, method="newcomb", compare="diff", alpha=1 - confidence)
        row("newcombe", (a, n, b, m), confidence, (low, high))

TABLES = [(1, 1, 7, 12), (54, 0, 0, 0), (36, 12, 2, 0), (2, 97, 1, 1), (30, 5, 5, 60), (0, 9, 0, 1), (10, 0, 4, 3),
          (700, 60, 20, 220), (9000, 210, 160, 630), (1, 20, 19, 3), (5, 3, 3, 5)]
for a, b, c, d in TABLES:
    least, m = min(b, c), b + c
    table = [[a, b], [c, d]]
    exact = mcnemar(table, exact=True).pvalue
    row("exact-two", (a, b, c, d), 0, (exact, min(1, 2 * binom.cdf(least, m, 0.5))))
    row("exact-drop", (a, b, c, d), 0, (binom.cdf(c, m, 0.5), binom.sf(b - 1, m, 0.5)))
    row("mid-two", (a, b, c, d), 0, [min(1, 2 * binom.cdf(least, m, 0.5) - binom.pmf(least, m, 0.5))] * 2)
    row("mid-drop", (a, b, c, d), 0, [binom.cdf(c, m, 0.5) - 0.5 * binom.pmf(c, m, 0.5)] * 2)
    n = a + b + c + d
    for confidence in (0.9, 0.95, 0.99):
        l1, u1 = proportion_confint(a + b, n, alpha=1 - confidence, method="wilson")
        l2, u2 = proportion_confint(a + c, n, alpha=1 - confidence, method="wilson")
        p1, p2 = (a + b) / n, (a + c) / n
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        excess = a * d - b * c
        excess = max(excess - n / 2, 0) if excess > 0 else excess
        phi = excess / math.sqrt(margins) if margins else 0
        low = p1 - p2 - math.sqrt(max(0, (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2))
        high = p1 - p2 + math.sqrt(max(0, (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2))
        row("newcombe-paired", (a, b, c, d), confidence, (max(low, -1), min(high, 1)))
