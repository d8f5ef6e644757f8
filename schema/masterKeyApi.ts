/** The key that private keys are encrypted under in the database, and how it is changed. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, says, Validation } from "./apiParts.ts"
import * as Problem from "./problems.ts"

const MasterKeyId = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{16}$/u, { message: "expected the 16 hex digits of a key's id" })
).annotate({ identifier: "MasterKeyId", description: "Tells master keys apart, and reveals nothing of them." })

const MasterKey = Schema.Struct({
  writing: MasterKeyId.annotate({ description: "Everything is encrypted under this one, by every process." }),
  readable: Schema.Array(MasterKeyId).annotate({ description: "The keys that the process that is asked has." }),
  counts: Schema.Record(Schema.String, Schema.Int).annotate({
    description: "How many values are under which key: those of the rows, and of the newest ten thousand changes."
  }),
  isRotating: Schema.Boolean.annotate({
    description:
      "Whether something may be left under a key that was written under before; no such key may go until then."
  })
}).annotate({ identifier: "MasterKey" })

export const RotationWanted = Schema.Struct({
  keyId: Schema.optionalKey(MasterKeyId).annotate({
    description:
      "The key to write under, which every process must have; by default the `CONTROL_MASTER_KEY` of this one."
  }),
  generate: Schema.optionalKey(Schema.Boolean).annotate({
    description: "Make a new key in the data directory; for a single process whose key is not from the settings."
  })
}).check(
  Schema.makeFilter(({ generate, keyId }) =>
    generate !== true || keyId === undefined || "say either `keyId` or `generate`, not both"
  )
)
export type RotationWanted = typeof RotationWanted.Type

export class MasterKeyGroup extends HttpApiGroup.make("masterKey").add(
  HttpApiEndpoint.get("get", "/api/master-key", { success: MasterKey, error: Problem.StoreUnavailable })
    .annotateMerge(says("read", "Say which master keys are in use")),
  HttpApiEndpoint.post("rotate", "/api/master-key/rotation", {
    payload: RotationWanted,
    success: MasterKey,
    error: [Problem.KeyNotEverywhere, Problem.KeyNotGenerated, Problem.StoreUnavailable]
  }).annotateMerge(says(
    "admin",
    "Change the master key",
    "From now on every process encrypts under it. What is stored is encrypted anew in the background; clients notice nothing."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Master key" })) {}
