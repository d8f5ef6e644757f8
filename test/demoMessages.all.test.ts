/** The demo leaves nothing behind, whatever ends it. */
import { descendants, untilGone } from "#support/processTree.ts"
import { assert, describe, it } from "@effect/vitest"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import { resolve } from "node:path"
import { createInterface } from "node:readline"

/** Runs the demo until it prints a line that contains `text`. */
async function runDemoUntil(text: string) {
  const demo = spawn(process.execPath, [resolve("demo/messages/main.ts")], { stdio: ["ignore", "pipe", "inherit"] })
  const lines = createInterface({ input: demo.stdout })
  for await (const line of lines) if (line.includes(text)) break
  const pids = descendants(demo.pid ?? 0)
  const dataDir = pids.flatMap((pid) =>
    /CONTROL_DATA_DIR=([^\0]+)/u.exec(readFileSync(`/proc/${pid}/environ`, "utf8"))?.[1] ?? []
  )
  assert.isAbove(pids.length, 8, "the server, its database and the clients run")
  return { demo, pids, dataDir: dataDir[0] ?? assert.fail("no server") }
}

const ended = (demo: ChildProcess) => demo.exitCode ?? demo.signalCode ?? once(demo, "exit")

// The test finds the children of a process in /proc.
describe.skipIf(process.platform !== "linux")("npm run demo", () => {
  it("ends every process and removes its directory when the reader of its output ends", async () => {
    const { dataDir, demo, pids } = await runDemoUntil("home starts again")
    demo.stdout?.destroy()
    await ended(demo)
    await untilGone(pids)
    assert.isFalse(existsSync(dataDir))
  })

  it("leaves no process when it is killed, not even a frozen client or the database", async () => {
    const { demo, pids } = await runDemoUntil("The frozen gateway delays no other client")
    demo.kill("SIGKILL")
    await ended(demo)
    await untilGone(pids)
  })
})
