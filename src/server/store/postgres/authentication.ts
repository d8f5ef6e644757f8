/** Password of the embedded database: created once, set in the cluster, required from every connection. */
import { writeFileAtomic } from "#files/writeFileAtomic.ts"
import { Effect, Redacted } from "effect"
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto"
import { chown, readFile } from "node:fs/promises"
import { join } from "node:path"
import { readOrCreateSecretFile } from "#store/secretFiles.ts"
import { attemptIO, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import type { Binaries } from "./binaries.ts"
import { clusterDirectory, runStatement } from "./cluster.ts"
import type { Account } from "./processes.ts"

/** The file in the data directory with the password of the database user `control`. */
const passwordFile = (dataDir: string): string => join(dataDir, "postgres-password")

/**
 * Returns the password that the stopped cluster requires, and makes the cluster require it. A cluster of version 0.2.0, which
 * trusted every connection, and a cluster with another password file are converted. The rules are written last, so that an
 * interrupted conversion is repeated.
 */
export const requirePassword = Effect.fnUntraced(function*(dataDir: string, binaries: Binaries, account: Account) {
  const password = yield* readOrCreateSecretFile(
    passwordFile(dataDir),
    Effect.sync(() => randomBytes(24).toString("base64url"))
  ).pipe(Effect.mapError(({ message }) => new EmbeddedPostgresFailed({ reason: message })))
  const cluster = clusterDirectory(dataDir)
  const file = join(cluster, "pg_hba.conf")
  const rules = rulesFor(Redacted.value(password))
  if ((yield* Effect.orElseSucceed(attemptIO(() => readFile(file, "utf8")), () => "")) === rules) return password

  const statement = `ALTER ROLE control PASSWORD '${scramVerifier(Redacted.value(password))}'`
  yield* runStatement(binaries, { account, cwd: cluster, scratch: dataDir, database: "postgres", statement })
  yield* attemptIO(async () => {
    await writeFileAtomic(file, rules)
    if (account.uid !== undefined && account.gid !== undefined) await chown(file, account.uid, account.gid)
  })
  return password
})

/** The comment shows which password the cluster has. A digest reveals nothing of a random password. */
const rulesFor = (password: string): string =>
  "# Written by Control. The password is in the file postgres-password of the data directory.\n" +
  `# SHA-256 of the password: ${createHash("sha256").update(password).digest("hex")}\n` +
  "local all all scram-sha-256\n"

/**
 * The form in which PostgreSQL stores a password (RFC 5803), so that no statement contains the password. One iteration is
 * enough for a random password of 192 bits, and every new connection computes them.
 */
const scramVerifier = (password: string): string => {
  const salt = randomBytes(16)
  const iterations = 1
  const salted = pbkdf2Sync(password, salt, iterations, 32, "sha256")
  const hmac = (text: string) => createHmac("sha256", salted).update(text).digest()
  const storedKey = createHash("sha256").update(hmac("Client Key")).digest("base64")
  return `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${storedKey}:${hmac("Server Key").toString("base64")}`
}
