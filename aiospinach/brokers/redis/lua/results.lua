#!lua flags=no-writes
-- Reads what is known of jobs that keep results.
-- KEYS   jobs deadjobs
--        and result:<id> of each job
-- needs  chunks headers dead_records
-- ARGV   the ids of the jobs
-- answer {now, for each job: the header of the live job, or ''; its stored end, or ''; the record of the dead job without
--        the body of its envelope, or ''; 1 if the header in that record can be read}
-- repeat reads again
local ids, answer = {unpack(ARGV)}, {now}

local function header_lines(envelope)
  return envelope and header(envelope) and string.match(envelope, '^[^\n]*\n[^\n]*\n') or ''
end

-- Returns the record of a dead job without the body of its envelope, and whether it can be read.
local function dead_record(id, record)
  local envelope, is_readable = envelope_of_dead(id, record or '')
  if not envelope then
    return '', false
  end
  local died_at, length, start = string.match(string.sub(record, 1, 40), '^(%d+) (%d+)\n()')
  local lines = is_readable and header_lines(envelope) or ''
  return died_at .. ' ' .. #lines .. '\n' .. lines .. string.sub(record, start + length), is_readable
end

local live, died = read_in_chunks('HMGET', jobs, ids), read_in_chunks('HMGET', deadjobs, ids)
local ends = call('MGET', unpack(KEYS, FIXED_KEYS + 1))
for number, id in ipairs(ids) do
  local record, is_readable = dead_record(id, died[number])
  answer[#answer + 1] = header_lines(live[number])
  answer[#answer + 1] = ends[number] or ''
  answer[#answer + 1] = record
  answer[#answer + 1] = is_readable and 1 or 0
end
return answer
