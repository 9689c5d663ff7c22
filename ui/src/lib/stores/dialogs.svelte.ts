// Questions that come in front of everything: one at a time.
export interface Confirmation {
  title: string;
  /** What will be lost, or happen. */
  text: string;
  /** Items, a line each. */
  items?: string[];
  /** The button's words: a verb and what. */
  action: string;
  dangerous: boolean;
  /** A box to tick, such as "Delete its anonymous volumes too". */
  option?: string;
  /** A word that must be typed first. */
  word?: string;
}

export interface Answer {
  option: boolean;
  word: string;
}

class Dialogs {
  confirmation = $state<Confirmation | null>(null);
  palette = $state(false);
  shortcuts = $state(false);
  run = $state<{ image: string } | null>(null);
  pull = $state<{ reference: string } | null>(null);
  #answer: ((answer: Answer | null) => void) | null = null;

  confirm(confirmation: Confirmation): Promise<Answer | null> {
    this.#answer?.(null);
    this.confirmation = confirmation;
    return new Promise((resolve) => {
      this.#answer = resolve;
    });
  }

  answer(answer: Answer | null): void {
    this.confirmation = null;
    this.#answer?.(answer);
    this.#answer = null;
  }
}

export const dialogs = new Dialogs();
