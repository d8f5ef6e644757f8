/** The cases of the Autobahn test suite for RFC 6455, with the WebSocket options of Control (only `npm run test:all`). */
import { describe, it } from "@effect/vitest"
import { afterAll } from "vitest"
import { framingCases } from "./autobahnCases.ts"
import { startEchoServer } from "./echoServer.ts"
import { sizeLimitCases } from "./sizeLimitCases.ts"
import { utf8Cases } from "./utf8Cases.ts"

const server = await startEchoServer()
afterAll(() => server.close())

describe.each(
  [["framing to closing", framingCases], ["UTF-8", utf8Cases], ["size limits", sizeLimitCases]] as const
)("the WebSocket server passes the Autobahn cases: %s", (_name, cases) => {
  it.concurrent.each(cases.map((rfcCase) => [rfcCase.id, rfcCase.title, rfcCase] as const))(
    "%s %s",
    (_id, _title, rfcCase) => server.check(rfcCase)
  )
})
