-- Returns the moment until which nothing counts as lost. If no worker looked at the queue for a quarter of a lease, the
-- store or all workers were away, and live workers could not renew their leases. So a rescue pause of a quarter of a
-- lease begins. In this pause live workers renew their leases, and settle jobs that have ended. A live worker renews
-- every quarter of a lease, so a shorter silence does no harm. Every look at the queue calls this function; key has the
-- moment of the last look and the end of the pause. Another silence prolongs the pause, and does not begin it anew. Each
-- look shortens the pause, so lost jobs are found even if workers live for short times, or their loops are blocked again
-- and again.
local function pause_until(key, length)
  local longest = length / 4
  local last, paused_until = string.match(call('GET', key) or '', '^(%d+) (%d+)$')
  last = tonumber(last)
  local passed = last and math.max(0, now - last) or 0 -- the clock may have been set back
  local left = last and math.max(0, math.min(tonumber(paused_until) - last, longest)) or 0
  local was_paused = left > 0
  if was_paused then -- guard: end of the rescue pause
    left = math.max(0, left - math.min(passed, longest / 3))
  elseif passed > longest then -- guard: silence
    left = longest
  end
  if not last or was_paused or math.abs(now - last) >= longest / 4 then -- not each time: many workers look often
    call('SET', key, string.format('%.0f %.0f', now, now + left))
  end
  return now + left
end
