-- Writes the events of jobs that were stored beside duplicates, a row for each row of jobs.
local function tell_stored(rows, ids, duplicates, event_rows)
  local is_duplicate, place = {}, 0
  for _, duplicate in ipairs(duplicates) do
    is_duplicate[duplicate] = true
  end
  for _, row in ipairs(rows) do
    local line = {'-\nscheduled', string.match(ARGV[row.first + 1] or '', '^2 (%S+)'), row.due}
    for _ = row.first, row.last, 2 do
      place = place + 1
      if not is_duplicate[place] then -- guard: event of a duplicate
        line[#line + 1] = ids[place]
      end
    end
    if #line > 3 then
      redis.pcall('XADD', events, 'MAXLEN', '~', event_rows, '*', 'e', table.concat(line, ' '))
    end
  end
end
