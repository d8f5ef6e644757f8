/** Builds `auth_success` of `control.v1`, the first message of a connection. */
import type { Client } from "#clients/ClientRegistry.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import type { ControlMessageV1 } from "#schema/messagesFromControlV1.ts"
import type { Timeline } from "#schema/ids.ts"
import packageJson from "#package.json" with { type: "json" }
import { authSuccessText, idField } from "#session/replies.ts"
import { Settings } from "#server/Settings.ts"
import { Duration, Effect } from "effect"

export const makeAuthSuccess = Effect.gen(function*() {
  const settings = yield* Settings
  const { id: node } = yield* NodeLease
  const timeoutMs = Math.round(Duration.toMillis(settings.heartbeatTimeout))
  const constant = {
    message: authSuccessText,
    heartbeat: { intervalMs: Math.max(1, Math.round(timeoutMs / 3)), timeoutMs },
    limits: { maxMessageBytes: settings.maxMessageBytes, maxMessagesPerSecond: settings.maxMessagesPerSecond },
    server: { version: packageJson.version, node }
  }
  return ({ ref, session }: Client, timeline: Timeline, resumed: boolean): ControlMessageV1 => ({
    type: "auth_success",
    data: { ...idField(ref), sessionId: session, timeline, resumed, ...constant }
  })
})
