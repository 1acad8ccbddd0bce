#!lua flags=allow-oom
-- Ends the wait of one session. A wait includes the list of its session beside the wake-ups.
-- KEYS   nudge
-- ARGV   none
-- answer {now}
-- repeat adds no second nudge; a nudge without a wait is forgotten after ten seconds
if call('LLEN', nudge) == 0 then
  call('RPUSH', nudge, '')
end
call('PEXPIRE', nudge, 10000)
return {now}
