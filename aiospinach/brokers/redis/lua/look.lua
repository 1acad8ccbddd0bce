#!lua flags=no-writes
-- Answers a question about a queue.
-- KEYS   ready jobs leases future dead deadjobs lanes pauses
-- needs  chunks task_of headers prune_dead dead_records counting
-- ARGV   'counts'; or 'oldest'; or 'dead', offset, count; or 'job', id
-- answer to 'counts': {now, name and entry of each pause, ready, running, waiting, parked, dead}
--        to 'oldest': {now, when the first job in line was due, or nothing}
--        to 'dead': {now, offset of the next page, id, record and 1 if it can be read, for each dead job, the latest
--        first}. A record is time of death, length of the envelope, newline, envelope, detail
--        to 'job': {now, envelope of the job, if it lives and can be read}
-- repeat reads again
local PAGES_AT_MOST = 10
local keys = {ready = ready, jobs = jobs, leases = leases, future = future, dead = dead, lanes = lanes}

local function dead_jobs(offset, count)
  local answer = {}
  for _ = 1, PAGES_AT_MOST do
    local left = math.min(count - #answer / 3, DEAD_AT_MOST - offset)
    local ids = left > 0 and call('ZREVRANGEBYSCORE', dead, '+inf', now - DEAD_FOR, 'LIMIT', offset, left) or {}
    for number, record in ipairs(read_in_chunks('HMGET', deadjobs, ids)) do
      local envelope, is_readable = envelope_of_dead(ids[number], record or '')
      if envelope then -- guard: unreadable record
        answer[#answer + 1] = ids[number]
        answer[#answer + 1] = record
        answer[#answer + 1] = is_readable and 1 or 0
      end
    end
    offset = offset + #ids
  end
  return {now, offset, answer}
end

local question = arg()
if question == 'counts' then
  return {now, call('HGETALL', pauses), counts_of(keys)}
end
if question == 'oldest' then
  return {now, oldest_of(keys) or false}
end
if question == 'dead' then
  return dead_jobs(tonumber(arg()), tonumber(arg()))
end
local envelope = call('HGET', jobs, arg())
return {now, envelope and header(envelope) and envelope or false}
