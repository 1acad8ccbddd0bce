-- One token wakes one idle worker; there is at most one. It says 'due' if something is due earlier than was
-- known, and 'run' if there only is something to run.
local function arm(is_sooner)
  if call('LLEN', wake) == 0 then -- guard: one token
    call('RPUSH', wake, is_sooner and 'due' or 'run')
  elseif is_sooner then
    call('LSET', wake, 0, 'due')
  end
end
