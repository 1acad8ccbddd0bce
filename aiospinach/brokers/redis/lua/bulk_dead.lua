#!lua flags=allow-oom
-- Requeues or discards dead jobs, the oldest first, some a call.
-- KEYS   ready jobs cancels dead deadjobs wake
-- needs  chunks task_of headers last_error dead_records requeue notify
-- ARGV   'requeue' or 'discard'; task and reason of the jobs, and their error as JSON (empty: any);
--        the score after which this call goes on, and
--        the score of the last job (empty: the first call)
-- answer {now, score after which the next call goes on ('': this was the last call), score of the last job, how many jobs
--        were requeued or discarded, how many could not be requeued, since they were kept without their arguments}
-- repeat goes on with the jobs that are left
local action, task, reason, error, after, last = arg(), arg(), arg(), arg(), arg(), arg()
local AT_ONCE, PAGE = 500, 100
local BYTES_AT_MOST = 262144 -- of records: a call stays short if they are long
local beginning = '{"reason":"' .. reason .. '"'
call('LLEN', ready)
call('HLEN', jobs)
call('HLEN', cancels)
call('HLEN', deadjobs)
call('LLEN', wake)
if last == '' then
  last = call('ZREVRANGE', dead, 0, 0, 'WITHSCORES')[2] or '0'
end

local function is_chosen(id, record)
  local envelope, is_readable, detail = envelope_of_dead(id, record)
  if task ~= '' and (not is_readable or task_of(envelope) ~= task) then -- guard: dead job of another task
    return false
  end
  if reason ~= '' and (not detail or string.sub(record, detail, detail + #beginning - 1) ~= beginning) then -- guard: reason
    return false
  end
  if error ~= '' then
    local first = detail and string.match(string.sub(record, detail, detail + 100), '^{"reason":"[^"]*","error":()')
    first = first and detail + first - 1
    if not first or string.sub(record, first, first + #error - 1) ~= error then -- guard: error
      return false
    end
  end
  return true
end

local count, bare_count, bytes, ended_ids = 0, 0, 0, {}
for _ = 1, AT_ONCE / PAGE do
  local page = call('ZRANGEBYSCORE', dead, after == '' and '-inf' or '(' .. after, last, 'WITHSCORES', 'LIMIT', 0, PAGE)
  local ids, looks = {}, 0
  for number = 1, #page, 2 do
    ids[#ids + 1] = page[number]
  end
  for number, id in ipairs(ids) do
    if bytes > BYTES_AT_MOST then -- guard: bytes of dead jobs
      break
    end
    local record = call('HGET', deadjobs, id) or ''
    looks, after, bytes = number, page[2 * number], bytes + #record
    if is_chosen(id, record) then
      local is_done, why = true, nil
      if action == 'requeue' then
        is_done, why = requeue(id, record)
      end
      ended_ids[#ended_ids + 1] = is_done and id or nil
      bare_count = bare_count + (why and 1 or 0)
    end
  end
  if looks == #ids and #ids < PAGE then
    after = ''
    break
  end
  if bytes > BYTES_AT_MOST then
    break
  end
end
call_in_chunks('HDEL', deadjobs, ended_ids)
call_in_chunks('ZREM', dead, ended_ids)
if action == 'requeue' and #ended_ids > 0 then
  notify()
end
return {now, after, last, #ended_ids, bare_count}
