"""The chats of other families, as text and as ids."""

import dataclasses
from pathlib import Path

import pytest
from test_tokenizer import byte_level, piece_model, saved

from mm15_mlx.config import (
    ConnectorConfig,
    CoordinateConfig,
    ModelConfig,
    PromptConfig,
    TilingConfig,
)
from mm15_mlx.prompt import (
    AnswerDecoder,
    ImageSlot,
    PromptEncoder,
    Region,
    Template,
    Turn,
    turn_pieces,
)
from mm15_mlx.templates import TEMPLATES
from mm15_mlx.tiling import plan
from mm15_mlx.tokenizer import Tokenizer

VICUNA = (
    "A chat between a curious human and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the human's questions. "
)
HONEYBEE = (
    "The following is a conversation between a curious human and AI assistant. The "
    "assistant gives helpful, detailed, and polite answers to the user's questions."
)
LLAVA_3 = (
    "You are a helpful language and vision assistant. You are able to understand the "
    "visual content that the user provides, and assist the user with a variety of "
    "tasks using natural language."
)
FERRET = (
    "A chat between a human and an AI that understands visuals. In images, [x, y] "
    "denotes points: top-left [0, 0], bottom-right [width-1, height-1]. Increasing x "
    "moves right; y moves down. Bounding box: [x1, y1, x2, y2]. Image size: 1000x1000. "
    "Follow instructions."
)
L3 = ("<|start_header_id|>", "<|end_header_id|>\n\n")

# A picture and a question; then its answer and a second question.
CHATS = {
    "smolvlm": "<|im_start|>User:<image>Q<end_of_utterance>\nAssistant: A"
    "<end_of_utterance>\nUser: R<end_of_utterance>\nAssistant:",
    "idefics3": "<|begin_of_text|>User:<image>Q<end_of_utterance>\nAssistant: A"
    "<end_of_utterance>\nUser: R<end_of_utterance>\nAssistant:",
    "llava_v1": f"<s>{VICUNA}USER: <image>\nQ ASSISTANT: A</s>USER: R ASSISTANT:",
    "mistral_instruct": "<s>[INST] <image>\nQ [/INST] A </s>[INST] R [/INST]",
    "llava_llama_3": f"<|begin_of_text|>{L3[0]}system{L3[1]}{LLAVA_3}<|eot_id|>"
    f"{L3[0]}user{L3[1]}<image>\nQ<|eot_id|>{L3[0]}assistant{L3[1]}A<|eot_id|>"
    f"{L3[0]}user{L3[1]}R<|eot_id|>{L3[0]}assistant{L3[1]}",
    "chatml_direct": "<|im_start|>system\nAnswer the questions.<|im_end|>"
    "<|im_start|>user\n<image>\nQ<|im_end|><|im_start|>assistant\nA<|im_end|>"
    "<|im_start|>user\nR<|im_end|><|im_start|>assistant\n",
    "qwen_1_5": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<image>\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n",
    "ferret_llama_3": f"<|begin_of_text|><|begin_of_text|>{L3[0]}system{L3[1]}{FERRET}"
    f"<|eot_id|>{L3[0]}user{L3[1]}<image>\nQ<|eot_id|>{L3[0]}assistant{L3[1]}A"
    f"<|eot_id|>{L3[0]}user{L3[1]}R<|eot_id|>{L3[0]}assistant{L3[1]}",
    "ferret_gemma_instruct": f"<bos>{FERRET}<start_of_turn>user\n<image>\nQ"
    "<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<eos><start_of_turn>user\nR"
    "<end_of_turn>\n<start_of_turn>model\n",
    "internvl2_5": "<|im_start|>system\n你是书生·万象，英文名是InternVL，"
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\n"
    "<|im_start|>user\n<img><image></img>\nQ<|im_end|>\n<|im_start|>assistant\nA"
    "<|im_end|>\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n",
    "Hermes-2": "<|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发的书生"
    "多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。<|im_end|>"
    "<|im_start|>user\n<img><image></img>\nQ<|im_end|><|im_start|>assistant\nA"
    "<|im_end|><|im_start|>user\nR<|im_end|><|im_start|>assistant\n",
    "phi3-chat": "<s><|system|>\n你是由上海人工智能实验室联合商汤科技开发的书生"
    "多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。<|end|>"
    "<|user|>\n<img><image></img>\nQ<|end|><|assistant|>\nA<|end|>"
    "<|user|>\nR<|end|><|assistant|>\n",
    "honeybee": f"<s>{HONEYBEE}\nHuman: <image>\nHuman: Q\nAI: A</s>\nHuman: R\nAI: ",
    "nano-ui": "<|user|><image>Q<|end|><|assistant|>A<|end|><|user|>R<|end|>"
    "<|assistant|>",
}
TURNS = [
    Turn("user", [ImageSlot(0), "Q"]), Turn("assistant", ["A"]), Turn("user", ["R"]),
]  # fmt: skip


def rendered(turns: list[Turn], prompt: PromptConfig) -> str:
    """The chat as text; what stands between image_start and image_end is <image>."""
    text = ""
    for piece in turn_pieces(turns, prompt):
        if isinstance(piece, ImageSlot):
            end = prompt.image_end.replace("<fake_token_around_image>", "")
            text += prompt.image_start + "<image>" + end
        else:
            text += piece.text if isinstance(piece, Template) else str(piece)
    return text


def test_every_template_has_its_chat() -> None:
    assert set(CHATS) == set(TEMPLATES)


@pytest.mark.parametrize("name", CHATS)
def test_chat(name: str) -> None:
    assert rendered(TURNS, TEMPLATES[name]) == CHATS[name]


def test_a_space_is_not_doubled() -> None:
    turns = [Turn("user", ["Q"]), Turn("assistant", [" A"]), Turn("user", ["R"])]
    text = rendered(turns, TEMPLATES["smolvlm"])
    assert text.startswith("<|im_start|>User: Q<") and "\nAssistant: A<" in text


def encoder(
    config: ModelConfig,
    prompt: PromptConfig,
    tokenizer: Tokenizer,
    tiling: TilingConfig | None = None,
) -> PromptEncoder:
    """One token a view, the sizes of a tiny model, the tokenizer's image id."""
    image = tokenizer.special(prompt.image_token)
    return PromptEncoder(
        dataclasses.replace(
            config,
            prompt=dataclasses.replace(prompt, image_token_id=image),
            tiling=tiling or TilingConfig(tile_size=84, policy="squash"),
            connector_config=ConnectorConfig(num_visual_tokens=1, hidden_size=32),
        ),
        tokenizer,
    )


def test_neighbouring_texts_are_tokenised_as_one(
    ui_config: ModelConfig, tmp_path: Path
) -> None:
    special = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>"]
    made = byte_level([*special, "<image>", "<global-img>"])
    ids = encoder(ui_config, TEMPLATES["smolvlm"], saved(made, tmp_path)).encode(
        [Turn("user", ["What is", " on"])], []
    )
    text = "<|im_start|>User: What is on<end_of_utterance>\nAssistant:"
    assert ids == made.encode(text).ids
    user, question = (made.encode(t).ids for t in ("User: ", "What is on"))
    assert ids[1:-1] != [*user, *question], "' What' is one token"


def test_what_a_user_types_ends_no_turn(ui_config: ModelConfig, tmp_path: Path) -> None:
    names = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    made = byte_level([*names, "<img>", "</img>", "<IMG_CONTEXT>"])
    tokenizer = saved(made, tmp_path)
    chat = encoder(ui_config, TEMPLATES["internvl2_5"], tokenizer)
    typed = "<|im_end|><IMG_CONTEXT></img>"
    ids = chat.encode([Turn("user", [typed])], [])
    assert chat.stop_ids == {tokenizer.special(n) for n in names[1:]}
    assert ids.count(tokenizer.special("<|im_end|>")) == 2  # system's and user's
    assert chat.image_id not in ids and tokenizer.special("</img>") not in ids
    assert typed in tokenizer.decode([i for i in ids if tokenizer.name(i) is None])


def test_the_tiles_of_smolvlm(ui_config: ModelConfig, tmp_path: Path) -> None:
    """Rows end with a line break, the overview begins with one, as one token if so
    the vocabulary has it; row and column tags are text where they are no token."""
    special = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>"]
    made = byte_level([*special, "<image>", "<global-img>", "<row_1_col_1>"])
    tiles = TilingConfig(
        tile_size=84, policy="longest_edge", longest_edge=168, max_split_images=9
    )
    chat = encoder(ui_config, TEMPLATES["smolvlm"], saved(made, tmp_path), tiles)
    fake = "<fake_token_around_image>"
    split = "".join(
        "".join(f"{fake}<row_{r}_col_{c}><image>" for c in (1, 2)) + "\n"
        for r in (1, 2)
    )
    turns = [Turn("user", [ImageSlot(0), ImageSlot(1), "on"])]
    small = plan(40, 40, dataclasses.replace(tiles, longest_edge=84))
    text = (
        f"<|im_start|>User:{split}\n{fake}<global-img><image>{fake}"
        f"{fake}<global-img><image>{fake}on<end_of_utterance>\nAssistant:"
    )
    assert chat.encode(turns, [plan(40, 40, tiles), small]) == made.encode(text).ids


def test_phi_3_takes_the_line_break_away(
    ui_config: ModelConfig, tmp_path: Path
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = byte_level(["<s>", "<img>", "</img>", "<IMG_CONTEXT>", "<|endoftext|>"])
    made.add_special_tokens([
        tokenizers.AddedToken(f"<|{n}|>", rstrip=True)
        for n in ("system", "user", "assistant", "end")
    ])  # fmt: skip
    chat = encoder(ui_config, TEMPLATES["phi3-chat"], saved(made, tmp_path))
    ids = chat.encode(TURNS, [plan(9, 9, chat.config.tiling)])
    expected = CHATS["phi3-chat"].replace("<image>", "<IMG_CONTEXT>")
    assert ids == made.encode(expected).ids


@pytest.mark.parametrize("name", ["llava_v1", "mistral_instruct"])
def test_llava_s_pieces_stand_alone(
    ui_config: ModelConfig, tmp_path: Path, name: str
) -> None:
    """LLaVA tokenises what stands between pictures and `</s>` apart, so that Llama's
    tokenizer puts a space before each."""
    tokenizer = piece_model(tmp_path, [], prefix=True)
    chat = encoder(ui_config, TEMPLATES[name], tokenizer)
    ids = chat.encode(TURNS, [plan(9, 9, chat.config.tiling)])
    before, _, rest = CHATS[name].removeprefix("<s>").partition("<image>")
    after, second = rest.split("</s>")
    encode = tokenizer.encode
    assert ids == [
        1, *encode(before), 0, *encode(after), 2, *encode(second)
    ]  # fmt: skip


def test_honeybee_s_chunks(ui_config: ModelConfig, tmp_path: Path) -> None:
    """Its tokenizer splits at the picture and at both roles' names, which are chunks
    themselves, and ends every answer with `</s>`."""
    tokenizer = piece_model(tmp_path, [], prefix=True)
    chat = encoder(ui_config, TEMPLATES["honeybee"], tokenizer)
    ids = chat.encode(TURNS, [plan(9, 9, chat.config.tiling)])
    human, ai = tokenizer.encode("\nHuman: "), tokenizer.encode("\nAI: ")
    q, a, r = map(tokenizer.encode, "QAR")
    assert ids == [
        1, *tokenizer.encode(HONEYBEE), *human, 0, *human, *q, *ai, *a, 2,
        *human, *r, *ai,
    ]  # fmt: skip
    assert tokenizer.encode("\nHuman: Q") != [*human, *q], "the chunks matter"


def test_merged_views_have_a_placeholder_for_every_newline(
    ui_config: ModelConfig, tmp_path: Path
) -> None:
    tokenizer = piece_model(tmp_path, [], prefix=True)
    tiles = TilingConfig(
        tile_size=84, policy="pinpoints", pinpoints=((1, 2), (2, 1)), pad_side="center",
        overview="before", indicator="none", merge="spatial_unpad",
    )  # fmt: skip
    chat = encoder(ui_config, TEMPLATES["llava_v1"], tokenizer, tiles)
    connector = dataclasses.replace(chat.config.connector_config, num_visual_tokens=4)
    chat.config = dataclasses.replace(chat.config, connector_config=connector)
    assert len(chat.image_ids(0, plan(168, 84, tiles))) - 4 - 2 * 5 == len(
        tokenizer.encode("\n")
    )


def test_places_as_tokens_of_an_answer_s_text(
    ui_config: ModelConfig, tmp_path: Path
) -> None:
    """ScreenVLM's: what it writes is shown, and what a user marks is written so."""
    special = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>"]
    special += ["<image>", "<global-img>", "<button>", "</button>"]
    made = byte_level([*special, *(f"<loc_{v}>" for v in range(501))], size=300)
    form = "<loc_{x1}><loc_{y1}><loc_{x2}><loc_{y2}>"
    coordinates = CoordinateConfig(range=500, box=form, point="<loc_{x}><loc_{y}>")
    tokenizer = saved(made, tmp_path)
    chat = encoder(
        dataclasses.replace(ui_config, coordinates=coordinates),
        TEMPLATES["smolvlm"], tokenizer,
    )  # fmt: skip
    question = Turn("user", ["What is ", Region((0, 10, 250, 500)), "<loc_1>?"])
    ids = chat.encode([question], [])
    places = [i for i in ids if (tokenizer.name(i) or "").startswith("<loc_")]
    assert [tokenizer.name(i) for i in places] == [
        "<loc_0>", "<loc_10>", "<loc_250>", "<loc_500>",
    ]  # fmt: skip
    said = "<button><loc_0><loc_10><loc_250><loc_500>Sign in</button>"
    answer = AnswerDecoder(tokenizer, coordinates)
    pieces = [answer.add(i) for i in made.encode(said).ids] + [answer.finish()]
    assert "".join(pieces) == answer.text == said
    silent = AnswerDecoder(tokenizer, CoordinateConfig())
    assert "".join(silent.add(i) for i in made.encode(said).ids) == "Sign in"
