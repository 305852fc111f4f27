"""Random models of the true architectures, small enough to train in seconds on a CPU, as folders that diffusers loads like real weights.

For tests and for trying a pipeline out before gigabytes are fetched. All parts are there: transformer, VAE, text encoders, tokenizers, scheduler. The
pictures that come out are noise.
"""

import pathlib

from . import events, exits, families, job as jobs, video

TEXT_WIDTH = 64
POOLED_WIDTH = 32
VOCABULARY = 400
# The scale of the VAE's numbers does not matter here; those of text models only have to be valid.
PADDING, UNKNOWN, END = "<pad>", "<unk>", "</s>"
# Clips of `--clips`: a bright square that wanders.
SQUARE = 8


def tokenizer():
    """Learned from the words that HunyuanVideo puts around a caption, so that they take about as many tokens as with its own."""
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token=UNKNOWN))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = [PADDING, UNKNOWN, END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([DEFAULT_PROMPT_TEMPLATE["template"]], trainer)
    made.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, special.index(END))])
    around = len(made.encode(DEFAULT_PROMPT_TEMPLATE["template"]).ids)
    # The first `crop_start` tokens are cut off; a caption must be left, and must not be crowded out.
    if not DEFAULT_PROMPT_TEMPLATE["crop_start"] < around < DEFAULT_PROMPT_TEMPLATE["crop_start"] + 200:
        raise AssertionError(f"the template takes {around} tokens")
    words = {"pad_token": PADDING, "unk_token": UNKNOWN, "eos_token": END}
    return PreTrainedTokenizerFast(tokenizer_object=made, padding_side="right", model_max_length=512, **words)


def hunyuan():
    import transformers as t
    from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline, HunyuanVideoTransformer3DModel

    transformer = HunyuanVideoTransformer3DModel(
        in_channels=16, out_channels=16, num_attention_heads=4, attention_head_dim=32, num_layers=2, num_single_layers=2, num_refiner_layers=1,
        mlp_ratio=4.0, patch_size=2, patch_size_t=1, qk_norm="rms_norm", guidance_embeds=True, text_embed_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH, rope_theta=256.0, rope_axes_dim=(8, 12, 12),
    )
    vae = AutoencoderKLHunyuanVideo(latent_channels=16, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
    llama = t.LlamaConfig(
        hidden_size=TEXT_WIDTH, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=3, vocab_size=VOCABULARY,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )
    clip = t.CLIPTextConfig(
        hidden_size=POOLED_WIDTH, intermediate_size=64, num_attention_heads=4, num_hidden_layers=2, vocab_size=VOCABULARY,
        projection_dim=POOLED_WIDTH, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )
    words = tokenizer()
    return HunyuanVideoPipeline(
        text_encoder=t.LlamaModel(llama), tokenizer=words, transformer=transformer, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=t.CLIPTextModel(clip), tokenizer_2=words,
    )


def mochi():
    import transformers as t
    from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

    transformer = MochiTransformer3DModel(
        patch_size=2, num_attention_heads=4, attention_head_dim=32, num_layers=3, pooled_projection_dim=64, in_channels=12,
        text_embed_dim=TEXT_WIDTH, time_embed_dim=32, max_sequence_length=256,
    )
    sizes = {"encoder_block_out_channels": (32, 32, 32, 32), "decoder_block_out_channels": (32, 32, 32, 32), "layers_per_block": (1, 1, 1, 1, 1)}
    config = t.T5Config(d_model=TEXT_WIDTH, d_kv=16, d_ff=64, num_layers=1, num_heads=4, vocab_size=VOCABULARY)
    return MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae=AutoencoderKLMochi(latent_channels=12, **sizes),
        text_encoder=t.T5EncoderModel(config), tokenizer=tokenizer(), transformer=transformer,
    )


def wan():
    import transformers as t
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=4, attention_head_dim=32, in_channels=16, out_channels=16, text_dim=TEXT_WIDTH, freq_dim=64,
        ffn_dim=256, num_layers=3, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=64,
    )
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True])
    config = t.UMT5Config(d_model=TEXT_WIDTH, d_kv=16, d_ff=64, num_layers=1, num_heads=4, vocab_size=VOCABULARY)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0)
    return WanPipeline(tokenizer=tokenizer(), text_encoder=t.UMT5EncoderModel(config), vae=vae, scheduler=scheduler, transformer=transformer)


MAKERS = {"hunyuan": hunyuan, "mochi": mochi, "wan": wan}


def make(architecture, out):
    """Writes the folder. The same architecture gives the same weights."""
    import torch

    families.library(jobs.Table(allow_download=False))
    torch.manual_seed(0)
    MAKERS[families.of(architecture).name]().save_pretrained(out)


def clips(count, shape, out):
    """Writes clips for `prepare`: `clip0.mp4` and so on."""
    import numpy

    out.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        generator = numpy.random.Generator(numpy.random.Philox(number))
        pictures = numpy.full((shape.frames, shape.height, shape.width, 3), generator.integers(20, 120, 3), numpy.uint8)
        step = generator.integers(1, 4, 2)
        for time in range(shape.frames):
            top, left = (step * time) % (shape.height - SQUARE, shape.width - SQUARE)
            pictures[time, top : top + SQUARE, left : left + SQUARE] = generator.integers(160, 256, 3)
        video.write(out / f"clip{number}.mp4", pictures, shape.fps)


def tiny(arguments):
    """The command `tiny`."""
    out = pathlib.Path(arguments.out)
    make(arguments.architecture, out)
    if arguments.clips:
        family = families.of(arguments.architecture)
        frames = arguments.frames or family.frames_per_latent + 1
        shape = jobs.Table(frames=frames, height=arguments.size, width=arguments.size, fps=24.0)
        clips(arguments.clips, shape, out / "clips")
    events.emit("done", step=0)
    return exits.DONE
