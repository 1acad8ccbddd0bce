-- Until when nothing counts as lost. A worker whose calls were not answered has not disappeared: after a time in
-- which nobody looked at the queue, since the store was away or everybody was, each one has a quarter of a lease to
-- renew its leases and to settle what has ended. A live worker renews that often, and so a shorter silence spoils
-- nothing. Whoever looks calls this; key holds when somebody looked last, and the moment that was told.
local function calm_until(key, length)
  local pause = length / 4
  local last, calm = string.match(call('GET', key) or '', '^(%d+) (%d+)$')
  last, calm = tonumber(last), math.min(tonumber(calm or 0), now + pause) -- the clock may have been set back
  if last and now - last > pause then -- guard: silence
    calm = now + pause
  end
  if not last or math.abs(now - last) >= pause / 4 then -- not each time: a fleet looks often
    call('SET', key, string.format('%.0f %.0f', now, calm))
  end
  return calm
end
