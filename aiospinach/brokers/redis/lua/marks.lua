-- The hash cancels has marks of jobs, by their ids:
--   'gone'        the job was cancelled; if it lay in a line, its id still lies there
--   'asked'       somebody cancels the job, and searches for its lease
--   'ended'       an exchange met the job in a line during this search
--   'later'       the job lies in a line, and is due later: an exchange that meets it puts it off
--   'later <at>'  the same, and its envelope has another moment as yet: somebody searches for its lease
local function is_cancelled(mark)
  local is_moved = mark and string.sub(mark, 1, 5) == 'later' -- guard: moved job
  return mark and not is_moved
end
