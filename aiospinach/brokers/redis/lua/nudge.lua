#!lua flags=allow-oom
-- Ends the wait of one session, which waits for this list besides its wake-ups.
-- KEYS   nudge
-- ARGV   none
-- answer {now}
-- repeat there is at most one nudge; one that nobody waits for any more is forgotten
if call('LLEN', nudge) == 0 then
  call('RPUSH', nudge, '')
end
call('PEXPIRE', nudge, 10000)
return {now}
