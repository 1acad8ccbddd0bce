#!lua flags=allow-oom
-- Wakes another worker if something is left to run: for one that was woken and will not look.
-- KEYS   ready slots control lanes open wake
-- needs  chunks gates notify
-- ARGV   none
-- answer {now}
-- repeat there is at most one token
if something_to_run() then
  notify()
end
return {now}
