-- Writes the events of an exchange: the rows of the caller, as they have become, and the jobs that were leased.
local function write_events(first_event, last_event, event_rows, worker, odd, starts, leased_ids)
  local function write(row)
    redis.pcall('XADD', events, 'MAXLEN', '~', event_rows, '*', 'e', row)
  end

  local row, number = '', 0
  for place = first_event, last_event do
    if row ~= '' then
      write(row)
    end
    row = ARGV[place]
    if next(odd) then
      row, number = corrected(row, number, odd)
    end
  end
  row = row == '' and worker or row
  for place, start in ipairs(starts) do
    local last = starts[place + 1] and starts[place + 1].first - 1 or #leased_ids
    for first = start.first, last, EVENTS_AT_ONCE do
      if #row > LONGEST_ROW then
        write(row)
        row = worker
      end
      row = row .. '\nstarted ' .. start.task .. ' ' ..
        table.concat(leased_ids, ' ', first, math.min(last, first + EVENTS_AT_ONCE - 1))
    end
  end
  if row ~= worker then
    write(row)
  end
end
