-- Events: what becomes of jobs, in a stream that keeps its latest rows. A row has the events of one call, or some of them.
-- Its first line is the name of the worker, or a dash. Each other line has events of one kind and task:
--   scheduled <task> <due (ms); 0: at once> <ids>
--   started <task> <ids>
--   done <task> <microseconds of the bodies, with commas> <ids>
--   retry, fail, cancelled, release or park <task> <microseconds or -> <class of the error or -> <delay (ms) or -> <id>
--   successor <task> <due> <id>, which follows the line of the same job
-- Callers write the rows of what they schedule and settle, since scripts take longer. If the stream cannot be written to,
-- events are lost, and jobs go on.
local EVENTS_AT_ONCE, LONGEST_ROW = 100, 4000

-- Returns the row of settled jobs as it has become. number is how many jobs were settled in rows before. odd has the jobs
-- that the caller did not know about, by their numbers: 'fenced', 'cancelled' instead of put back, or 'alone', without
-- their successors. Returns the number of the last job as well.
local function corrected(row, number, odd)
  local lines = {}
  for line in string.gmatch(row, '[^\n]+') do
    local kind, task, words = string.match(line, '^(%S+) (%S+) (.*)$')
    if not kind then -- the worker
      lines[1] = line
    elseif kind == 'successor' then
      if not odd[number] then -- guard: event of a successor
        lines[#lines + 1] = line
      end
    elseif kind ~= 'done' then
      number = number + 1
      if odd[number] == 'cancelled' then -- guard: event of a cancellation
        line = 'cancelled ' .. task .. ' ' .. words
      end
      if odd[number] ~= 'fenced' then -- guard: event of a fenced job
        lines[#lines + 1] = line
      end
    else
      local durations, ids, first = {}, {}, number
      local all, rest = string.match(words, '^(%S+) (.*)$')
      for duration in string.gmatch(all, '[^,]+') do
        durations[#durations + 1] = duration
      end
      local kept = {}
      for id in string.gmatch(rest, '%S+') do
        number = number + 1
        if odd[number] ~= 'fenced' then -- guard: event of a fenced success
          ids[#ids + 1] = id
          kept[#kept + 1] = durations[number - first]
        end
      end
      if #ids > 0 then
        lines[#lines + 1] = 'done ' .. task .. ' ' .. table.concat(kept, ',') .. ' ' .. table.concat(ids, ' ')
      end
    end
  end
  return #lines > 1 and table.concat(lines, '\n') or '', number
end
