"""Audits a library's rule, or any optimizer, against a gain table."""

from gamma_nlp.check.audit.compare import audit as audit
from gamma_nlp.check.audit.report import Accident as Accident
from gamma_nlp.check.audit.report import Audit as Audit
from gamma_nlp.gains.peer_rules import stock_decayed as stock_decayed
