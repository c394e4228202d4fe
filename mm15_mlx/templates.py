"""The chats of the families whose checkpoints are imported, as data.

Facts of each family, read from its own code or chat template; a converter takes one and
puts in the id that the image token has in the checkpoint's tokenizer: -1 here where
that differs between checkpoints. Names are the families' own where they have any.
"""

import dataclasses

from mm15_mlx.config import PromptConfig

# Where a vocabulary has no token for pictures (Llama 2), `<unk>` stands for one: no
# text produces it, as every character can be written in bytes.
_LLAMA = PromptConfig(
    bos="<s>", system_start="", system_end="", user_start="", user_end="",
    assistant_start="", assistant_end="</s>", stop=("</s>",), joined=True,
    image_token="<unk>", image_token_id=0, tile_text="", overview_text="",
)  # fmt: skip

_LLAVA_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the "
    "visual content that the user provides, and assist the user with a variety of "
    "tasks using natural language."
)
_FERRET_SYSTEM = (
    "A chat between a human and an AI that understands visuals. In images, [x, y] "
    "denotes points: top-left [0, 0], bottom-right [width-1, height-1]. Increasing x "
    "moves right; y moves down. Bounding box: [x1, y1, x2, y2]. Image size: 1000x1000. "
    "Follow instructions."
)

_LLAMA_3 = dataclasses.replace(
    _LLAMA, bos="<|begin_of_text|>",
    system_start="<|start_header_id|>system<|end_header_id|>\n\n",
    system_end="<|eot_id|>",
    user_start="<|start_header_id|>user<|end_header_id|>\n\n", user_end="<|eot_id|>",
    assistant_start="<|start_header_id|>assistant<|end_header_id|>\n\n",
    assistant_end="<|eot_id|>", stop=("<|eot_id|>", "<|end_of_text|>"),
    image_token="<image>", image_token_id=-1, image_end="\n",
)  # fmt: skip

_SMOLVLM = PromptConfig(
    bos="<|im_start|>",
    system_start="System: ", system_end="<end_of_utterance>\n",
    user_start="User:", user_end="<end_of_utterance>\n",
    assistant_start="Assistant:", assistant_end="<end_of_utterance>\n",
    stop=("<end_of_utterance>",), gap=" ", joined=True,
    image_token="<image>", image_token_id=49190,
    image_end="<fake_token_around_image>",
    tile_text="<fake_token_around_image><row_{i}_col_{j}>", row_end="\n",
    overview_text="\n<fake_token_around_image><global-img>",
    whole_text="<fake_token_around_image><global-img>",
)  # fmt: skip

_CHATML = PromptConfig(
    system_start="<|im_start|>system\n", system_end="<|im_end|>\n",
    user_start="<|im_start|>user\n", user_end="<|im_end|>\n",
    assistant_start="<|im_start|>assistant\n", assistant_end="<|im_end|>\n",
    stop=("<|im_end|>", "<|endoftext|>"), joined=True,
    image_token="<IMG_CONTEXT>", image_token_id=151667,
    image_start="<img>", image_end="</img>\n", tile_text="", overview_text="",
    ground="Please provide the bounding box coordinate of the region this sentence "
    "describes: <ref>{query}</ref>",
    system="你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作"
    "单位联合开发的多模态大语言模型。",
)  # fmt: skip
# InternVL 2, of the repository's note: other words, and no line break after a turn.
_INTERNVL_2 = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。"
)

TEMPLATES: dict[str, PromptConfig] = {
    "nano-ui": PromptConfig(),
    "smolvlm": _SMOLVLM,
    "idefics3": dataclasses.replace(
        _SMOLVLM, bos="<|begin_of_text|>", image_token_id=128257
    ),
    "llava_v1": dataclasses.replace(
        _LLAMA, system_end=" ", user_start="USER: ", user_end=" ",
        assistant_start="ASSISTANT:", gap=" ", image_end="\n",
        system="A chat between a curious human and an artificial intelligence "
        "assistant. The assistant gives helpful, detailed, and polite answers to the "
        "human's questions.",
    ),
    "mistral_instruct": dataclasses.replace(
        _LLAMA, system_start="<<SYS>>\n", system_end="\n<</SYS>>\n\n",
        user_start="[INST] ", user_end=" [/INST]", assistant_end=" </s>", gap=" ",
        image_end="\n",
    ),
    "llava_llama_3": dataclasses.replace(_LLAMA_3, system=_LLAVA_SYSTEM),
    # LLaVA-NeXT with Yi 34B, which no line breaks follow, and with Qwen 1.5.
    "chatml_direct": dataclasses.replace(
        _LLAMA, bos="", system_start="<|im_start|>system\n", system_end="<|im_end|>",
        user_start="<|im_start|>user\n", user_end="<|im_end|>",
        assistant_start="<|im_start|>assistant\n", assistant_end="<|im_end|>",
        stop=("<|im_end|>",), image_end="\n", system="Answer the questions.",
    ),
    "qwen_1_5": dataclasses.replace(
        _CHATML, image_token="<image>", image_token_id=-1, image_start="",
        image_end="\n", system="You are a helpful assistant.",
        ground=PromptConfig.ground,
    ),
    # Its template names the first token, and its tokenizer gives one more.
    "ferret_llama_3": dataclasses.replace(
        _LLAMA_3, bos="<|begin_of_text|>" * 2, system=_FERRET_SYSTEM,
        image_token="<|reserved_special_token_0|>",
    ),
    "ferret_gemma_instruct": dataclasses.replace(
        _LLAMA, bos="<bos>", user_start="<start_of_turn>user\n",
        user_end="<end_of_turn>\n", assistant_start="<start_of_turn>model\n",
        assistant_end="<end_of_turn>\n<eos>", stop=("<end_of_turn>", "<eos>"),
        image_token="<pad>", image_end="\n", system=_FERRET_SYSTEM,
    ),
    "internvl2_5": _CHATML,
    "Hermes-2": dataclasses.replace(
        _CHATML, system_end="<|im_end|>", user_end="<|im_end|>",
        assistant_end="<|im_end|>", image_token_id=-1, system=_INTERNVL_2,
    ),
    "phi3-chat": dataclasses.replace(
        _CHATML, bos="<s>", system_start="<|system|>\n", system_end="<|end|>",
        user_start="<|user|>\n", user_end="<|end|>",
        assistant_start="<|assistant|>\n", assistant_end="<|end|>",
        stop=("<|end|>", "<|endoftext|>"), image_token_id=-1, system=_INTERNVL_2,
    ),
    "honeybee": dataclasses.replace(
        _LLAMA, user_start="\nHuman: ", assistant_start="\nAI: ", joined=False,
        image_end="\nHuman: ",
        ground="Provide the bounding box coordinate of the region this sentence "
        "describes. {query}",
        system="The following is a conversation between a curious human and AI "
        "assistant. The assistant gives helpful, detailed, and polite answers to the "
        "user's questions.",
    ),
}  # fmt: skip

# How children of these families are asked for a place, where their makers ask so.
OS_ATLAS_GROUND = (
    "In the screenshot of this web page, please give me the coordinates of the element "
    'I want to click on according to my instructions(with point).\n"{query}"'
)
AGENTIC_GROUND = (  # of its first phase: the later one's needs a list of functions
    "Using the screenshot, you will get an instruction and will need to output a click "
    "that completes the instruction or targets the given element.\n\nJust write your "
    "action as follows:\n\nAction: click(0.XXXX, 0.YYYY)\nWith 0.XXXX and 0.YYYY the "
    "normalized coordinates of the click position on the screenshot, representing "
    "relative horizontal (X-axis) and vertical (Y-axis) positions on the screen "
    "respectively.\n\nNow write the click needed to complete the instruction:\n"
    "Instruction: {query}\n"
)
