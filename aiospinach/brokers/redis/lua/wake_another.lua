#!lua flags=allow-oom
-- Wakes another worker if something is left to run, after the woken worker ended its wait without looking.
-- KEYS   ready slots control lanes open wake pauses
-- needs  gates notify
-- ARGV   none
-- answer {now}
-- repeat adds no second token
if something_to_run() then
  notify()
end
return {now}
