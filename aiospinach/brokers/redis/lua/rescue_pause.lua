-- Until when nothing counts as lost. A worker whose calls were not answered has not disappeared: after a time in
-- which nobody looked at the queue, since the store was away or everybody was, each one has a quarter of a lease to
-- renew its leases and to settle what has ended. A live worker renews that often, and so a shorter silence spoils
-- nothing. Whoever looks calls this; key holds when somebody looked last, and until when it was calm then.
-- Another silence prolongs the calm, and does not begin a new one: each look uses up some of it, or workers that
-- live for short times, or stand still again and again, would never find anything.
local function calm_until(key, length)
  local pause = length / 4
  local last, calm = string.match(call('GET', key) or '', '^(%d+) (%d+)$')
  last = tonumber(last)
  local passed = last and math.max(0, now - last) or 0 -- the clock may have been set back
  local left = last and math.max(0, math.min(tonumber(calm) - last, pause)) or 0
  local was_calm = left > 0
  if was_calm then -- guard: end of the calm
    left = math.max(0, left - math.min(passed, pause / 3))
  elseif passed > pause then -- guard: silence
    left = pause
  end
  if not last or was_calm or math.abs(now - last) >= pause / 4 then -- not each time: a fleet looks often
    call('SET', key, string.format('%.0f %.0f', now, now + left))
  end
  return now + left
end
