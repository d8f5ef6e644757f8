/** Binary heap of items by deadline. An item knows its position, so that each change takes O(log n). */

export interface HeapItem {
  /** Time at which the item is due. Only the heap changes it. */
  deadline: number
  /** Position in the heap, -1 outside. Only the heap changes it. */
  heapIndex: number
}

export class DeadlineHeap<Item extends HeapItem> {
  readonly #items: Array<Item> = []

  /** The item with the earliest deadline. */
  get first(): Item | undefined {
    return this.#items[0]
  }

  get size(): number {
    return this.#items.length
  }

  /** Adds the item or moves it to its new deadline. Infinity removes it. */
  set(item: Item, deadline: number): void {
    if (deadline === Infinity) return this.#remove(item)
    item.deadline = deadline
    if (item.heapIndex < 0) {
      item.heapIndex = this.#items.length
      this.#items.push(item)
    }
    this.#siftDown(this.#siftUp(item))
  }

  #remove(item: Item): void {
    const index = item.heapIndex
    item.deadline = Infinity
    if (index < 0) return
    item.heapIndex = -1
    const last = this.#items.pop()!
    if (last === item) return
    this.#place(last, index)
    this.#siftDown(this.#siftUp(last))
  }

  #siftUp(item: Item): Item {
    for (let index = item.heapIndex; index > 0;) {
      const parent = this.#items[(index - 1) >> 1]!
      if (parent.deadline <= item.deadline) break
      this.#place(parent, index)
      index = (index - 1) >> 1
      this.#place(item, index)
    }
    return item
  }

  #siftDown(item: Item): void {
    for (let index = item.heapIndex;;) {
      const left = this.#items[2 * index + 1]
      const right = this.#items[2 * index + 2]
      const child = right !== undefined && left !== undefined && right.deadline < left.deadline ? right : left
      if (child === undefined || child.deadline >= item.deadline) return
      const below = child.heapIndex
      this.#place(child, index)
      this.#place(item, below)
      index = below
    }
  }

  #place(item: Item, index: number): void {
    this.#items[index] = item
    item.heapIndex = index
  }
}
