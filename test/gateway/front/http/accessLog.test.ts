/** Lines of the access log, also for visitors that try to forge them. */
import { assert, describe, it } from "@effect/vitest"
import { type AccessLogEntry, combinedLine, jsonLine, withoutQuery } from "#gateway/front/http/accessLog.ts"

const entry: AccessLogEntry = {
  time: Date.UTC(2026, 2, 4, 5, 6, 7, 8),
  visitor: "2001:db8::1",
  host: "app.example.com",
  method: "GET",
  path: "/a",
  protocol: "HTTP/2.0",
  status: 200,
  receivedBytes: 1,
  sentBytes: 5,
  durationMillis: 1.23456,
  tunnelId: "t1",
  referer: undefined,
  userAgent: "curl/8"
}

describe("access log", () => {
  it("a JSON line has all facts, RFC 3339 time and milliseconds with three digits", () => {
    assert.deepStrictEqual(JSON.parse(jsonLine(entry)), {
      time: "2026-03-04T05:06:07.008Z",
      visitor: "2001:db8::1",
      host: "app.example.com",
      method: "GET",
      path: "/a",
      protocol: "HTTP/2.0",
      status: 200,
      receivedBytes: 1,
      sentBytes: 5,
      tunnelId: "t1",
      userAgent: "curl/8",
      durationMillis: 1.235
    })
  })

  it("a combined line has Apache's fields, with `-` for unknown ones", () => {
    const start = "2001:db8::1 - - [04/Mar/2026:05:06:07 +0000] \"GET /a HTTP/2.0\" 200"
    assert.strictEqual(combinedLine(entry), `${start} 5 "-" "curl/8"`)
    assert.strictEqual(combinedLine({ ...entry, sentBytes: 0, referer: "/r", userAgent: "" }), `${start} - "/r" "-"`)
  })

  it("a visitor cannot begin a line or end a quoted field", () => {
    const forged = { ...entry, path: "/\"\n\\", userAgent: "a\r\nb\u001b[31mé\u2028" }
    assert.isFalse(["\r", "\n", "\u001b"].some((char) => jsonLine(forged).includes(char)))
    const line = combinedLine(forged)
    assert.match(line, /^[\x20-\x7e]+$/u)
    assert.include(line, String.raw`"GET /\"\x0a\\ HTTP/2.0"`)
    assert.include(line, String.raw`"a\x0d\x0ab\x1b[31m\xc3\xa9\xe2\x80\xa8"`)
  })

  it("paths have no query and no fragment", () => {
    assert.deepStrictEqual(["/a?b#c", "/a#b", "/a", "?"].map(withoutQuery), ["/a", "/a", "/a", ""])
  })
})
