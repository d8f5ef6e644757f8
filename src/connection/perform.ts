/** Carries out what a session has decided; the only place where its actions touch the world. */
import { Certificates } from "#certificates/Certificates.ts"
import { Authenticator } from "#clients/Authenticator.ts"
import { type Client, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { monotonicMillis } from "#clients/monotonic.ts"
import { Presence } from "#clients/Presence.ts"
import { reasonToClose } from "#clients/Revocations.ts"
import { newId } from "#crypto/identifiers.ts"
import type { Batch } from "#feed/Batch.ts"
import { ChangeBus } from "#feed/ChangeBus.ts"
import { textFrame } from "#feed/frames.ts"
import { Network } from "#feed/Network.ts"
import { Revision, SessionId } from "#schema/ids.ts"
import { encodeMessage } from "#schema/protocol.ts"
import type { Action, Event } from "#session/Session.ts"
import { TunnelReports } from "#tunnels/TunnelReports.ts"
import { Cause, Clock, Effect, MutableRef, type PubSub, type Scope } from "effect"
import type { Buffer } from "node:buffer"
import type { Upgrade } from "./Connection.ts"
import { forward, sendConfig } from "./outbound.ts"
import type { Socket } from "./Socket.ts"

/** What an authenticated connection holds besides its socket. */
interface Member {
  readonly client: Client
  readonly batches: PubSub.Subscription<Batch>
}

type Act<Tag extends Action["_tag"]> = Extract<Action, { _tag: Tag }>

/** Gives the function that carries out the actions of one connection in order, and returns what became of them. */
export const makePerform = Effect.fnUntraced(function*(socket: Socket, upgrade: Upgrade) {
  const certificates = yield* Certificates
  const reports = yield* TunnelReports
  const enter = yield* makeEnter(socket, upgrade)
  const follow = yield* makeFollow(socket)
  let member: Member | undefined

  const authenticate = (action: Act<"Authenticate">) =>
    enter(action).pipe(
      Effect.map((entered): Event => {
        member = entered
        return { _tag: "Authenticated", client: entered.client.ref }
      }),
      Effect.catchTags({
        InvalidKey: () => Effect.succeed<Event>({ _tag: "Refused" }),
        StoreUnavailable: () => Effect.succeed<Event>({ _tag: "Unavailable" }),
        ClientGone: () => Effect.succeed<Event>({ _tag: "Deleted" })
      })
    )

  const storeCertificate = ({ gateway, certificate }: Act<"StoreCertificate">) =>
    certificates.obtained(gateway, certificate).pipe(
      Effect.as<Event | undefined>(undefined),
      Effect.catchTags({
        CertificateRejected: ({ reason }) => Effect.succeed<Event>({ _tag: "NotStored", code: "certificate_rejected", reason }),
        StoreUnavailable: () =>
          Effect.succeed<Event>({ _tag: "NotStored", code: "unavailable", reason: "the certificate could not be stored now; send it again" })
      })
    )

  const touch = Effect.map(monotonicMillis, (now) => {
    if (member !== undefined) MutableRef.set(member.client.lastSeen, now)
  })

  /** What one event causes goes out in one write. */
  return Effect.fnUntraced(function*(actions: ReadonlyArray<Action>) {
    const outcomes: Array<Event> = []
    const frames: Array<Buffer> = []
    for (const action of actions) {
      switch (action._tag) {
        case "Send":
          frames.push(textFrame(encodeMessage(action.message)))
          break
        case "Authenticate":
          outcomes.push(yield* authenticate(action))
          break
        case "Follow":
          if (member !== undefined) yield* follow(member, frames.splice(0))
          break
        case "Touch":
          yield* touch
          break
        case "Report":
          yield* reports.report(action.agent, action.tunnels)
          break
        case "StoreCertificate": {
          const outcome = yield* storeCertificate(action)
          if (outcome !== undefined) outcomes.push(outcome)
          break
        }
        case "Close":
          socket.write(frames.splice(0))
          socket.close(action.reason)
      }
    }
    if (frames.length > 0) socket.write(frames)
    return outcomes
  })
})

/**
 * From a key to a member: find whose key it is, claim the session durably, subscribe, become a member. All of it is undone
 * when the connection's scope closes, the claim fenced by its session so that a late undoing harms no newer one.
 */
const makeEnter = Effect.fnUntraced(function*(socket: Socket, upgrade: Upgrade) {
  const authenticator = yield* Authenticator
  const presence = yield* Presence
  const registry = yield* ClientRegistry
  const deliveries = yield* Deliveries
  const bus = yield* ChangeBus

  return Effect.fnUntraced(function*({ apiKey, publicIp }: Act<"Authenticate">) {
    const key = yield* authenticator.authenticate(apiKey, upgrade.type, upgrade.address)
    const session = SessionId.make(newId())
    const claim = { ...key.owner, session, address: upgrade.address, level: "plain", publicIp }
    yield* Effect.acquireRelease(presence.claim(claim), () => presence.release(claim))
    yield* upgrade.admitted
    const client: Client = {
      session,
      ref: key.owner,
      keyId: key.id,
      address: upgrade.address,
      since: yield* Clock.currentTimeMillis,
      lastSeen: MutableRef.make(yield* monotonicMillis),
      sent: MutableRef.make(Revision.make(0)),
      close: (reason) => Effect.sync(() => socket.close(reason)),
      ping: Effect.sync(() => socket.ping())
    }
    const batches = yield* bus.follow(client.ref)
    yield* Effect.addFinalizer(() => deliveries.left)
    yield* registry.admit(client)
    const member: Member = { client, batches }
    return member
  })
})

/** Subscribed already, so what is committed after the snapshot comes by the subscription, and what it shows is left out there. */
const makeFollow = Effect.fnUntraced(function*(socket: Socket) {
  const network = yield* Network
  const context = yield* Effect.context<Network | Deliveries | Scope.Scope>()

  return ({ client, batches }: Member, before: ReadonlyArray<Buffer>) =>
    Effect.gen(function*() {
      // From here on a revocation finds the session; one that came before is found here.
      const reason = reasonToClose(yield* network.state, client)
      if (reason !== undefined) return yield* client.close(reason)
      const position = yield* sendConfig(client, socket, ...before)
      yield* forward(client, socket, batches, position).pipe(
        Effect.catchTags({ TooSlow: () => client.close("tooSlow"), SocketClosed: () => Effect.void }),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.void
            : Effect.andThen(Effect.logError("forwarding to a client failed", cause), client.close("defect"))
        ),
        Effect.forkScoped
      )
    }).pipe(Effect.provideContext(context))
})
