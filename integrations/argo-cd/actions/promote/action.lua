-- A new id is a new request. The whole action is replaced: nothing of an earlier undo may stay.
obj.spec.rollout = obj.spec.rollout or {}
obj.spec.rollout.action = {id = os.date("!%Y%m%d-%H%M%S") .. "-argocd-promote", verb = "promote"}
return obj
