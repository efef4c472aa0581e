-- Transfers for wrk. Bodies and heads are made before the load begins; per request only the key is put together.
-- From the environment: BENCH_KEY (API key), BENCH_RUN (unique), BENCH_ACCOUNTS (file, one id per line, all of one
-- length), BENCH_HOT (an account, or empty), BENCH_ASSET. Prints one JSON line at the end.

local bodies_made = 16384
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local head, tails, count, sent

function init(args)
  local accounts = {}
  for line in io.lines(os.getenv("BENCH_ACCOUNTS")) do accounts[#accounts + 1] = line end
  local hot, asset, run = os.getenv("BENCH_HOT"), os.getenv("BENCH_ASSET"), os.getenv("BENCH_RUN")
  local seed = number
  for i = 1, #run do seed = (seed * 31 + run:byte(i)) % 2147483647 end
  math.randomseed(seed)
  tails, count, sent = {}, bodies_made, 0
  local length
  for i = 1, count do
    local source, destination = accounts[math.random(#accounts)], nil
    if hot ~= "" then
      while source == hot do source = accounts[math.random(#accounts)] end
      destination = hot
      -- In turn debited and credited.
      if i % 2 == 0 then source, destination = hot, source end
    else
      repeat destination = accounts[math.random(#accounts)] until destination ~= source
    end
    local body = '{"source":"' .. source .. '","destination":"' .. destination
      .. '","amount":"0.01","asset":"' .. asset .. '"}'
    length = length or #body
    if #body ~= length then error("all account ids must be of one length") end
    tails[i] = "\r\n\r\n" .. body
  end
  head = "POST /v1/transfers HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
    .. "\r\nAuthorization: Bearer " .. os.getenv("BENCH_KEY")
    .. "\r\nContent-Type: application/json\r\nContent-Length: " .. length
    .. "\r\nIdempotency-Key: " .. run .. "-" .. number .. "-"
end

function request()
  sent = sent + 1
  return head .. sent .. tails[sent % count + 1]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"refused":%d,"broken":%d,"p50_us":%d,"p95_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), latency.max))
end
