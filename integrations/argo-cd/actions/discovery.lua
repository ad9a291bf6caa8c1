-- Which actions make sense now. Where status is about an older spec the operator judges, so that nothing is closed off.
local status = obj.status or {}
local rollout = status.rollout or {}
local stable = status.stableRevision and status.stableRevision.hash
local candidate = status.candidateRevision and status.candidateRevision.hash
local fresh = status.observedGeneration == obj.metadata.generation
local paused = obj.spec.paused == true

local failed = candidate ~= nil and rollout.aborted ~= nil and rollout.aborted.revision == candidate
if candidate ~= nil then
  for _, ended in ipairs(status.history or {}) do
    failed = failed or (ended.revision == candidate and ended.result == "Failed")
  end
end
local moving = candidate ~= nil and candidate ~= stable and not failed

local actions = {}
actions["promote"] = {disabled = fresh and not moving, displayName = "Promote", iconClass = "fa fa-fw fa-step-forward"}
actions["promote-full"] = {disabled = fresh and not moving, displayName = "Promote fully", iconClass = "fa fa-fw fa-fast-forward"}
actions["abort"] = {disabled = fresh and not moving, displayName = "Abort", iconClass = "fa fa-fw fa-undo"}
actions["retry"] = {disabled = fresh and not failed, displayName = "Retry", iconClass = "fa fa-fw fa-redo"}
actions["pause"] = {disabled = paused, displayName = "Pause", iconClass = "fa fa-fw fa-pause-circle"}
actions["resume"] = {disabled = not paused, displayName = "Resume", iconClass = "fa fa-fw fa-play-circle"}
return actions
