-- Leaves a token, which wakes one idle worker; there is at most one token. It is 'due' if something is due earlier than
-- was known, and 'run' if there is only something to run.
local function notify(has_earlier_due)
  if call('LLEN', wake) == 0 then -- guard: one token
    call('RPUSH', wake, has_earlier_due and 'due' or 'run')
  elseif has_earlier_due then
    call('LSET', wake, 0, 'due')
  end
end
