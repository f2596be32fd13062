"""The one room that touches cwltool, schema-salad and cwl-utils: everything else imports from here.

It loads a workflow, walks it or expands it for a plan, and turns each ready step into a ``StepPlan``. It must
not know of sessions, nodes, databases or HTTP servers.
"""
