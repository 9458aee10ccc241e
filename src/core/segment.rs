//! A sealed range of the log as blocks: Seal, Index, Page, Payload, FrameIndex, FramePage, Anchor.
