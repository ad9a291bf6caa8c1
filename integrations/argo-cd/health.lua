-- How Argo CD shows a ModelDeployment. Conditions follow kstatus: Stalled is present only while true.
local health = {status = "Progressing", message = "Waiting for the operator"}
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end

local ready = conditions["Ready"]
if conditions["Stalled"] ~= nil and conditions["Stalled"].status == "True" then
  health.status = "Degraded"
  health.message = conditions["Stalled"].message
elseif obj.spec.paused then
  health.status = "Suspended"
  health.message = "Paused: nothing moves until it is resumed"
elseif ready ~= nil then
  if ready.status == "True" then
    health.status = "Healthy"
  end
  health.message = ready.message
end
return health
