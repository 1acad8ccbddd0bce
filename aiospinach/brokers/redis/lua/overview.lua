#!lua flags=no-writes
-- Counts the jobs of queues, and lists their pauses and workers, and what these did in some minutes.
-- needs  task_of headers counting seen_workers
--        KEYS are for each queue: ready jobs leases future dead lanes pauses workers reports, and the rows of the hour
--        of each minute
-- ARGV   lease (ms), minutes (since 1970)
-- answer {now, for each queue: {ready, running, waiting, parked, dead}; when the first job in line was due, or nothing;
--        name and entry of each pause; session, moment of the last look and first line of the report, or '', for each
--        worker; field and contents of each row}
-- repeat reads again
local NAMES = {'ready', 'jobs', 'leases', 'future', 'dead', 'lanes', 'pauses', 'workers', 'reports'}
local lease, minutes = tonumber(arg()), {}
for number = 1, #ARGV - 1 do
  minutes[number] = arg()
end
local answer, place = {now}, 0

local function next_key()
  place = place + 1
  return KEYS[place]
end

-- Returns the keys of the next queue by their names, and those of its rows.
local function next_keys()
  local keys, hours = {}, {}
  for _, name in ipairs(NAMES) do
    keys[name] = next_key()
  end
  for number = 1, #minutes do
    hours[number] = next_key()
  end
  return keys, hours
end

-- Returns the workers of a queue, and their rows. A report begins with the name of its worker.
local function workers_of(keys, hours)
  local seen, rows = {}, {}
  each_worker(keys, lease, function(session, at, report)
    local position = #seen
    seen[position + 1], seen[position + 2], seen[position + 3] = session, at, report
    local name = string.match(report, '^{"name":"([^"]*)"')
    for number, minute in ipairs(name and minutes or {}) do
      local field = minute .. ':' .. name
      local row = call('HGET', hours[number], field)
      if row then
        rows[#rows + 1] = field
        rows[#rows + 1] = row
      end
    end
  end)
  return seen, rows
end

while place < #KEYS do
  local keys, hours = next_keys()
  answer[#answer + 1] = {counts_of(keys)}
  answer[#answer + 1] = oldest_of(keys) or false
  answer[#answer + 1] = call('HGETALL', keys.pauses)
  answer[#answer + 1], answer[#answer + 2] = workers_of(keys, hours)
end
return answer
