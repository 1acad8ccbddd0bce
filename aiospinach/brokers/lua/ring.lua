#!lua flags=allow-oom
-- Wakes another worker if something is left to run: for one that was woken and will not look.
-- KEYS   ready slots wake lanes
-- needs  limits wake
-- ARGV   count of limits, then for each: task, limit
-- answer {now}
-- repeat there is at most one token
read_limits()
if something_to_run() then
  arm()
end
return {now}
