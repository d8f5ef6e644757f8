/** Carries out what a session has decided; the only place where its actions touch the world. */
import { Certificates } from "#certificates/Certificates.ts"
import { Authenticator } from "#clients/Authenticator.ts"
import { type Client, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { monotonicMillis } from "#clients/monotonic.ts"
import { Presence } from "#clients/Presence.ts"
import { reasonToClose } from "#clients/Revocations.ts"
import type { Batch } from "#feed/Batch.ts"
import { ChangeBus } from "#feed/ChangeBus.ts"
import { textFrame } from "#feed/frames.ts"
import { Network } from "#feed/Network.ts"
import { Revision } from "#schema/ids.ts"
import { encodeMessage } from "#schema/protocol.ts"
import type { Action, Event } from "#session/Session.ts"
import { TunnelReports } from "#tunnels/TunnelReports.ts"
import { Cause, Effect, MutableRef, type PubSub, type Scope } from "effect"
import type { Buffer } from "node:buffer"
import type { Upgrade } from "./Connection.ts"
import { forward, sendConfig } from "./outbound.ts"
import type { Socket } from "./Socket.ts"

/** The only level of this version. */
const level = "plain"

/** What an authenticated connection holds besides its socket. */
interface Member {
  readonly client: Client
  readonly batches: PubSub.Subscription<Batch>
}

type Act<Tag extends Action["_tag"]> = Extract<Action, { _tag: Tag }>

/** Gives the function that carries out the actions of one connection in order, and returns what became of them. */
export const makePerform = Effect.fnUntraced(function*(socket: Socket, upgrade: Upgrade) {
  const reports = yield* TunnelReports
  const storeCertificate = yield* makeStoreCertificate
  const enter = yield* makeEnter(socket, upgrade)
  const follow = yield* makeFollow(socket)
  let member: Member | undefined

  const authenticate = (action: Act<"Authenticate">): ReturnType<typeof enter> =>
    Effect.tap(enter(action), (entered) => Effect.sync(() => member = entered.member))

  /** `frames` wait for the end of the actions, so that what one event causes goes out in one write. */
  const carryOut = (action: Action, frames: Array<Buffer>) => {
    switch (action._tag) {
      case "Send":
        return Effect.sync(() => void frames.push(textFrame(encodeMessage(action.message))))
      case "Authenticate":
        return Effect.map(authenticate(action), ({ event }) => event)
      case "Follow":
        return member === undefined ? Effect.void : follow(member, frames.splice(0))
      case "Touch":
        return member === undefined ? Effect.void : touch(member)
      case "Report":
        return reports.report(action.agent, action.tunnels)
      case "StoreCertificate":
        return storeCertificate(action)
      case "Close":
        return Effect.sync(() => {
          socket.write(frames.splice(0))
          socket.close(action.reason)
        })
    }
  }

  return Effect.fnUntraced(function*(actions: ReadonlyArray<Action>) {
    const outcomes: Array<Event> = []
    const frames: Array<Buffer> = []
    for (const action of actions) {
      const outcome = yield* carryOut(action, frames)
      if (outcome !== undefined) outcomes.push(outcome)
    }
    if (frames.length > 0) socket.write(frames)
    return outcomes
  })
})

const touch = ({ client }: Member) => Effect.map(monotonicMillis, (now) => void MutableRef.set(client.lastSeen, now))

/** Answers only where a certificate was not stored: the plain level has no other receipt than the `config` that follows. */
const makeStoreCertificate = Effect.map(
  Certificates,
  (certificates) => ({ gateway, certificate }: Act<"StoreCertificate">): Effect.Effect<Event | undefined> =>
    certificates.obtained(gateway, certificate).pipe(
      Effect.as(undefined),
      Effect.catchTags({
        CertificateRejected: ({ reason }) => Effect.succeed(notStored("certificate_rejected", reason)),
        StoreUnavailable: () =>
          Effect.succeed(notStored("unavailable", "the certificate could not be stored now; send it again"))
      })
    )
)

function notStored(code: Extract<Event, { _tag: "NotStored" }>["code"], reason: string): Event {
  return { _tag: "NotStored", code, reason }
}

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

  const enter = Effect.fnUntraced(function*({ apiKey, publicIp }: Act<"Authenticate">) {
    const key = yield* authenticator.authenticate(apiKey, upgrade.type, upgrade.address)
    const session = yield* Effect.acquireRelease(
      presence.claim({ ...key.owner, address: upgrade.address, level, publicIp }),
      (session) => presence.release({ ...key.owner, session })
    )
    yield* upgrade.admitted
    const client: Client = {
      session,
      ref: key.owner,
      keyId: key.id,
      level,
      lastSeen: MutableRef.make(yield* monotonicMillis),
      sent: MutableRef.make(Revision.make(0)),
      close: (reason) => Effect.sync(() => socket.close(reason)),
      ping: Effect.sync(() => socket.ping())
    }
    const batches = yield* bus.follow(client.ref)
    yield* Effect.addFinalizer(() => deliveries.left)
    yield* registry.admit(client)
    return entered({ _tag: "Authenticated", client: client.ref }, { client, batches })
  })

  return (action: Act<"Authenticate">) =>
    Effect.catchTags(enter(action), {
      InvalidKey: () => Effect.succeed(entered({ _tag: "Refused" })),
      StoreUnavailable: () => Effect.succeed(entered({ _tag: "Unavailable" })),
      ClientGone: () => Effect.succeed(entered({ _tag: "Deleted" }))
    })
})

/** What became of an authentication, and the member that it made. */
function entered(event: Event, member?: Member) {
  return { event, member }
}

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
